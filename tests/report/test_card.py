"""Specification of the model card."""

from __future__ import annotations

import ast
import math
from dataclasses import replace

import pytest
import yaml
from huggingface_hub import ModelCard
from markdown_it import MarkdownIt

from finetuning_exam.evaluation.exam import Exam, FoldFigures
from finetuning_exam.evaluation.results import Pair
from finetuning_exam.report.card import hub_name, model_card, without_places
from finetuning_exam.report.headline import folds_words
from finetuning_exam.run_record import RunRecord
from finetuning_exam.settings import TrainSettings

HOSTILE = (
    "a`b```c|d\n---\n# x <script>alert(1)</script> [l](http://e) {{7*7}}\n```\n# y "
    "\x1b[0m \u202e \ud800</svg>"
)


def _body(card: str) -> str:
    """The Markdown after the front matter."""
    return card.split("\n---\n", 1)[1]


def test_front_matter_is_what_the_hub_reads(exam: Exam, run: RunRecord) -> None:
    """The Hub's own parser finds library, tags, task and the exam's figures."""
    data = ModelCard(model_card(exam, run)).data
    assert data.library_name == "peft"
    assert data.tags == ["lora", "sft", "trl"]
    assert data.pipeline_tag == "text-generation"
    assert data.model_name == "output"
    found = {result.metric_type: result.metric_value for result in data.eval_results}
    assert found == {
        "nll_per_token": 3.5,
        "bits_per_byte": 1.4,
        "exact_match": 0.25,
        "chrf": 45.6,
        "accuracy": 0.8,
    }


def test_a_figure_that_was_not_measured_is_left_out(unmeasured_exam: Exam, run: RunRecord) -> None:
    """NaN is left out of the front matter, and the text shows a dash."""
    card = model_card(unmeasured_exam, run)
    front = yaml.safe_load(card.split("---")[1])
    metrics = front["model-index"][0]["results"][0]["metrics"]
    assert [metric["type"] for metric in metrics] == ["nll_per_token", "bits_per_byte"]
    assert all(math.isfinite(metric["value"]) for metric in metrics)
    assert "| Exact match | – | – | – |" in card
    assert "4 training examples" in card


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("builtin", None),
        ("./models/base", None),
        ("/srv/base", None),
        ("~/base", None),
        ("a/b/c", None),
        (HOSTILE, None),
        ("HuggingFaceTB/SmolLM2-135M", "HuggingFaceTB/SmolLM2-135M"),
    ],
)
def test_only_a_base_on_the_hub_is_named_to_the_hub(
    exam: Exam, run: RunRecord, name: str, expected: str | None
) -> None:
    """`base_model` is absent for the built-in base and for a folder."""
    card = model_card(exam, replace(run, base=replace(run.base, name=name)))
    assert hub_name(name) == expected
    assert yaml.safe_load(card.split("---")[1]).get("base_model") == expected


@pytest.mark.parametrize("template", ["plain", "chat"])
def test_the_snippet_is_a_dozen_lines_of_python_or_fewer(
    exam: Exam, run: RunRecord, template: str
) -> None:
    """It parses, uses plain PEFT only, and leaves the base's folder to the reader."""
    card = model_card(exam, replace(run, template=template))
    snippet = card.split("```python\n")[1].split("\n```")[0]
    modules = [node.module for node in ast.parse(snippet).body if isinstance(node, ast.ImportFrom)]
    assert modules == ["peft", "transformers"]
    assert len(snippet.splitlines()) <= 12
    assert '"path/to/the/base"' in snippet
    assert "apply_chat_template" in snippet
    prompt = "### Instruction:\nYour question\n\n### Response:\n"
    assert (prompt in card) == (template == "plain")


def test_odd_paths_and_commands_break_nothing(exam: Exam, run: RunRecord) -> None:
    """Hostile text stays text: same headings and lists, no HTML, front matter still readable."""
    hostile = replace(
        run,
        command=f"fte train {HOSTILE}",
        base=replace(run.base, name=HOSTILE),
        data=replace(run.data, paths=(HOSTILE,), exam_path=HOSTILE),
        settings=TrainSettings(output_dir=HOSTILE.replace("/", ""), lora_target_modules=(HOSTILE,)),
    )
    card = model_card(exam, hostile)
    card.encode("utf-8")
    assert "\x1b" not in card
    assert "\u202e" not in card
    assert yaml.safe_load(card.split("\n---\n")[0])["library_name"] == "peft"
    markdown = MarkdownIt("commonmark").enable("table")
    shape = [token.type for token in markdown.parse(_body(model_card(exam, run)))]
    tokens = markdown.parse(_body(card))
    inline = [child.type for token in tokens for child in token.children or ()]
    assert not {"html_block", "html_inline", "link_open", "image"} & {
        *inline,
        *(token.type for token in tokens),
    }
    assert [t.type for t in tokens if t.type == "heading_open"] == [
        name for name in shape if name == "heading_open"
    ]
    assert "<script>" not in markdown.render(_body(card))


def test_card_has_data_recipe_and_result(exam: Exam, run: RunRecord) -> None:
    """The card has the hashes, the recipe, the verdict and the command to reproduce the run."""
    card = model_card(exam, run)
    for expected in (
        "Improved: held-out answers became significantly more likely.",
        "Difference: -1.500 nats per token (95% interval: -1.750 to -1.250); negative is better.",
        f"- Training file: `train.jsonl`, SHA-256 `{'a1' * 32}`",
        f"weights SHA-256 `{'c3' * 32}`",
        "- LoRA: r 16, alpha 32, dropout 0, target modules `all-linear` (42 adapted)",
        "step 456 was kept",
        "```sh\nfte train train.jsonl --seed 7\n```",
    ):
        assert expected in card


def test_a_card_holds_no_place_of_this_machine(exam: Exam, run: RunRecord) -> None:
    """A card is shared: of a path it has the last part, and a command has path/to/ in its place."""
    home = "/home/alice/secret"
    card = model_card(
        exam,
        replace(
            run,
            command=f"fte train {home}/d.jsonl --model={home}/base --eval_file ~/e.jsonl "
            "--output_dir runs/x",
            base=replace(run.base, name=f"{home}/base"),
            data=replace(
                run.data, paths=(f"{home}/d.jsonl", "hub:a/b"), exam_path=f"{home}/e.jsonl"
            ),
            settings=TrainSettings(output_dir=f"{home}/out"),
        ),
    )
    assert "alice" not in card
    assert "secret" not in card
    assert "for `base`, fine-tuned" in card
    assert "- Training file: `d.jsonl, hub:a/b`, SHA-256" in card
    assert "- Exam file: `e.jsonl`, SHA-256" in card
    assert (
        "fte train path/to/d.jsonl --model=path/to/base --eval_file path/to/e.jsonl "
        "--output_dir runs/x"
    ) in card


@pytest.mark.parametrize(
    ("command", "shared"),
    [
        ("fte train d.jsonl --lora_r 8", "fte train d.jsonl --lora_r 8"),
        ("fte train 'my data.jsonl'", "fte train 'my data.jsonl'"),
        ("fte train '/a b/my data.jsonl'", "fte train 'path/to/my data.jsonl'"),
        ("fte train --model=/srv/m d.jsonl", "fte train --model=path/to/m d.jsonl"),
        ("fte train 'C:\\Users\\alice\\d.jsonl'", "fte train path/to/d.jsonl"),
        ("fte train ../d.jsonl --model org/name", "fte train ../d.jsonl --model org/name"),
    ],
)
def test_a_command_is_shared_without_absolute_paths(command: str, shared: str) -> None:
    """Only absolute paths in a command change."""
    assert without_places(command) == shared


def test_a_cross_validation_is_no_result_of_this_adapter(exam: Exam, run: RunRecord) -> None:
    """The card says that others were examined, in its text and where the Hub reads the figures."""
    folds = (FoldFigures(24, 6, Pair(5.0, 3.5)), FoldFigures(25, 5, Pair(4.0, 4.25)))
    crossed = replace(exam, folds=folds)
    data = replace(run.data, exam_path=None, exam_sha256=None)
    own = replace(run, settings=replace(run.settings, folds=2), data=data)
    card = model_card(crossed, own)
    assert folds_words(crossed) in card
    assert "Difference in each fold: -1.500 (6 examples), +0.250 (5 examples)." in card
    assert "in 2 folds; each was examined by an adapter trained on the others" in card
    results = ModelCard(card).data.eval_results
    assert {it.dataset_name for it in results} == {
        "train.jsonl (cross-validation: 2 other adapters)"
    }
    assert "ross-validation" not in model_card(exam, run)
