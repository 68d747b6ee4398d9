"""Specification of texts that already have the marks of a chat template."""

from __future__ import annotations

import pytest

from finetuning_exam.data.kinds import Kind
from finetuning_exam.data.records import Example
from finetuning_exam.data.templated import templated_findings

TEMPLATED = {
    "ChatML": "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>",
    "Llama 2's and Mistral's template": "<s>[INST] Hi [/INST] Hello</s>",
    "Llama 3's template": "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHi",
    "Gemma's template": "<bos><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\nHello",
    "Phi's or Zephyr's template": "<|user|>\nHi</s>\n<|assistant|>\nHello</s>",
    "the form of Human and Assistant": "### Human: Hi\n### Assistant: Hello",
    "Alpaca's template": "### Instruction:\nSay hi.\n\n### Response:\nHi.",
}
MORE = [
    "Human: Hi\n\nAssistant: Hello",
    "### User: Hi there\n### Assistant: Hello",
    "  [INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHi [/INST] Hello",
    "<|im_start|>system\nBe brief.<|im_end|>",
    "Below is an instruction.\n\n### Instruction:\nHi.\n\n### Response:\nHello.",
]
NOT_TEMPLATED = [
    "A tree is a plant.",
    "ChatML writes <|im_start|>user before each question.",
    "<|endoftext|>",
    "### Human rights\nThey are for all.",
    "Human: the word comes from Latin.",
    "### Instruction manuals\nRead them.",
    "[INSTALL] the package.",
    "In Mistral's template, [INST] stands before a question.",
]


@pytest.mark.parametrize(("name", "text"), TEMPLATED.items(), ids=TEMPLATED)
def test_a_templated_text_is_named(name: str, text: str) -> None:
    """The finding says which template it is, and that all of it is trained."""
    (finding,) = templated_findings(Example("", text, 1, "d.jsonl"))
    assert finding.kind is Kind.TEMPLATED_TEXT
    assert str(finding).startswith(f"d.jsonl:1: the text is a conversation in {name} (")
    assert str(finding).endswith(
        "; all of it is trained as it is written, questions and marks too."
    )


@pytest.mark.parametrize("text", MORE)
def test_variants_of_templates_are_named(text: str) -> None:
    """Other beginnings of the same templates."""
    assert len([*templated_findings(Example("", text, 1, "d.jsonl"))]) == 1


@pytest.mark.parametrize("text", TEMPLATED.values(), ids=TEMPLATED)
def test_a_templated_prompt_is_named(text: str) -> None:
    """Its marks would stand inside those of the model's own template."""
    (finding,) = templated_findings(Example(text, "Hello.", 1, "d.jsonl"))
    assert "which is put inside the model's own" in str(finding)


@pytest.mark.parametrize("text", NOT_TEMPLATED)
def test_a_text_about_templates_is_no_conversation(text: str) -> None:
    """Only a text that begins as a template does is reported, and never an answer."""
    assert not [*templated_findings(Example("", text, 1, "d.jsonl"))]
    assert not [*templated_findings(Example(text, "Yes.", 1, "d.jsonl"))]
    for templated in TEMPLATED.values():
        assert not [*templated_findings(Example("How does one look?", templated, 1, "d.jsonl"))]
