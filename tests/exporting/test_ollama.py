"""Specification of Modelfiles: Ollama's template gives the prompts of training."""

from __future__ import annotations

import re
from pathlib import Path

import families
import pytest
from exports import Exports
from tiny import CHAT_TEMPLATE

from finetuning_exam.data.encoding.chat_template import ChatTemplate
from finetuning_exam.data.records import Turn
from finetuning_exam.errors import ModelError
from finetuning_exam.exporting.go_template import render
from finetuning_exam.exporting.ollama import conversations, modelfile, ollama_template
from finetuning_exam.exporting.source import Source, open_source

QWEN = (
    "{%- if messages[0].role != 'system' %}{{ '<|im_start|>system\nYou are helpful.<|im_end|>\n' }}"
    "{%- endif %}"
) + families.CHATML
TEMPLATES = {
    "ChatML": families.CHATML,
    "Llama 3": families.LLAMA3_CHAT,
    "Gemma": families.GEMMA_CHAT,
    "Mistral": families.MISTRAL_CHAT,
    "Phi-3": families.PHI3_CHAT,
    "Qwen": QWEN,
    "SmolLM2": CHAT_TEMPLATE,
}
TALK = (
    Turn("user", "Who are you?"),
    Turn("assistant", "A model."),
    Turn("user", "Which?\n日本 {{ x }} <b>"),
    Turn("assistant", ""),
    Turn("user", "Well?"),
)


def _source(exports: Exports, text: str, tmp_path: Path, template: str = "chat") -> Source:
    import shutil

    base = tmp_path / "base"
    shutil.copytree(exports.base(), base)
    (base / "chat_template.jinja").write_text(text, encoding="utf-8")
    settings = exports.settings(
        exports.base(), "ollama", tmp_path, model_name_or_path=str(base), template=template
    )
    return open_source(settings)


@pytest.mark.parametrize("text", TEMPLATES.values(), ids=TEMPLATES)
def test_a_template_is_translated(text: str, exports: Exports, tmp_path: Path) -> None:
    """In Ollama's language it renders every kind of conversation as the chat template does."""
    source = _source(exports, text, tmp_path)
    template = ollama_template(source)
    assert template is not None
    own = ChatTemplate(source.encoder.tokenizer, None, source.chat_template)
    compared = 0
    for turns in (*conversations(takes_system='"system"' in template), TALK[:1], TALK[:3]):
        try:
            expected = own.render(turns, asks=True)
        except ModelError:
            continue
        assert render(template, turns) == expected
        compared += 1
    assert compared >= 5


def test_the_plain_template_is_translated(exports: Exports, tmp_path: Path) -> None:
    """A run with the plain template has its headings in the Modelfile."""
    source = _source(exports, families.CHATML, tmp_path, "plain")
    template = ollama_template(source)
    assert template is not None
    asked = (Turn("system", "Be brief."), Turn("user", "Why?"))
    assert render(template, asked) == (
        "### System:\nBe brief.\n\n### Instruction:\nWhy?\n\n### Response:\n"
    )


@pytest.mark.parametrize(
    "text",
    [
        families.CHATML.replace("m.content", "(m.content | replace('spoon', 'fork'))"),
        families.CHATML.replace("m.content", "m.content[:20]"),
        families.CHATML.replace(
            "'<|im_end|>\n'", "('<|im_end|>\n' if loop.index < 4 else '<|end|>\n')"
        ),
    ],
    ids=["changes the text", "cuts the text", "counts the turns"],
)
def test_what_cannot_be_said_is_left_to_the_runtime(
    text: str, exports: Exports, tmp_path: Path
) -> None:
    """A template that does more than write around turns has no translation."""
    assert ollama_template(_source(exports, text, tmp_path)) is None


def test_a_modelfile_has_the_terms_of_the_exam(exports: Exports, tmp_path: Path) -> None:
    """It names the file, the end tokens, the system turn, the context, and greedy decoding."""
    source = _source(exports, families.CHATML, tmp_path)
    text = modelfile("model-f16.gguf", source, "Be brief.", "T")
    lines = text.splitlines()
    assert "FROM ./model-f16.gguf" in lines
    assert 'TEMPLATE """T"""' in lines
    assert 'SYSTEM """Be brief."""' in lines
    assert "PARAMETER temperature 0" in lines
    assert f"PARAMETER num_ctx {source.context}" in lines
    stops = re.findall(r'^PARAMETER stop "(.+)"$', text, re.MULTILINE)
    assert stops == ["<|end|>", "<|im_end|>"]  # the token and, as it is none here, the text
    assert "TEMPLATE" not in modelfile("model-f16.gguf", source, "", None)
