"""README.md of an adapter: the model card, in the format the Hugging Face Hub reads."""

from __future__ import annotations

import json
import math
import re
import shlex
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath

import yaml

from finetuning_exam.data.encoding.template import prompt_func
from finetuning_exam.data.reading.hub import is_hub_name
from finetuning_exam.data.records import Example
from finetuning_exam.evaluation.exam import Exam
from finetuning_exam.machine import library_versions
from finetuning_exam.model.folder import looks_like_path
from finetuning_exam.report.calls import call_lines, calls_words
from finetuning_exam.report.headline import (
    answered_words,
    difference_words,
    fold_differences,
    folds_words,
    forgetting_words,
    headline,
)
from finetuning_exam.report.skills import divergence_words, skill_table
from finetuning_exam.report.text import (
    BITS_PER_BYTE,
    CHRF,
    EXACT_MATCH,
    NLL_PER_TOKEN,
    choice_name,
    counted,
    measures,
    number,
    on_one_line,
    pieces_words,
    visible,
)
from finetuning_exam.run_record import RunRecord
from finetuning_exam.settings import BUILTIN_MODEL
from finetuning_exam.training.plan import rows_in_step

_BASE_PLACEHOLDER = "path/to/the/base"
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|~&:$@^=\"'])")


def model_card(exam: Exam, run: RunRecord) -> str:
    """Render the card: the adapter, its exam results, how to use it, its data and its recipe."""
    name = PurePath(run.settings.output_dir).name or "adapter"
    sections = (
        f"---\n{_front_matter(exam, run, name)}---",
        f"# {_text(name)}",
        _what_it_is(run),
        f"## Exam\n\n{headline(exam)}\n\n{_results(exam)}",
        f"## Use\n\n{_use(run)}",
        f"## Data\n\n{_data(run)}",
        f"## Recipe\n\n{_recipe(run)}",
        f"To reproduce:\n\n{_block(without_places(run.command), 'sh')}",
    )
    return "\n\n".join(sections) + "\n"


def without_places(command: str) -> str:
    """Return a command line whose absolute paths end at `path/to/`, since a card is shared."""
    words = (word.rpartition("=") for word in shlex.split(command))
    return shlex.join(f"{flag}{sign}{_placeless(value)}" for flag, sign, value in words)


def _placeless(path: str) -> str:
    """Return an absolute path as `path/to/NAME`, and anything else as it is."""
    is_absolute = PurePosixPath(path).is_absolute() or PureWindowsPath(path).is_absolute()
    name = PureWindowsPath(path).name if "\\" in path else PurePosixPath(path).name
    return f"path/to/{name}" if is_absolute or path.startswith("~") else path


def hub_name(name: str) -> str | None:
    """Return the Hub name of a base; None for the built-in base and for a local folder."""
    is_local = name == BUILTIN_MODEL or looks_like_path(name) or Path(name).exists()
    return None if is_local else name


def _front_matter(exam: Exam, run: RunRecord, name: str) -> str:
    base = hub_name(run.base.name)
    exam_file = run.data.exam_path or run.data.path
    dataset = on_one_line(PurePath(exam_file).name)
    by_others = f" (cross-validation: {len(exam.folds)} other adapters)" if exam.folds else ""
    result = {
        "task": {"type": "text-generation"},
        "dataset": {"name": f"{dataset}{by_others}", "type": dataset},
        "metrics": [
            {"type": kind, "name": title, "value": round(value, 6)}
            for kind, title, value in _metrics(exam)
            if math.isfinite(value)
        ],
    }
    front = {
        "library_name": "peft",
        **({"base_model": base} if base else {}),
        "pipeline_tag": "text-generation",
        "tags": ["lora", "sft", "trl"],
        "model-index": [{"name": on_one_line(name), "results": [result]}],
    }
    return yaml.safe_dump(front, sort_keys=False, allow_unicode=True)


def _metrics(exam: Exam) -> tuple[tuple[str, str, float], ...]:
    """Type, name and value of each figure of the tuned model."""
    overall = exam.overall
    return (
        ("nll_per_token", NLL_PER_TOKEN, overall.nll_per_token.tuned),
        ("bits_per_byte", BITS_PER_BYTE, overall.bits_per_byte.tuned),
        ("exact_match", EXACT_MATCH, overall.exact_match.tuned),
        ("chrf", CHRF, overall.chrf.tuned),
        ("accuracy", choice_name(overall), overall.choice_accuracy.tuned),
    )


def _what_it_is(run: RunRecord) -> str:
    base = _code(hub_name(run.base.name) or PurePath(run.base.name).name)
    if run.base.name == BUILTIN_MODEL:
        base = "the built-in base of finetuning-exam (`--model builtin`)"
    return (
        f"A LoRA adapter of rank {run.settings.lora_r} ({run.adapter.n_parameters:,} parameters) "
        f"for {base}, fine-tuned on instructions with finetuning-exam.\n\n"
        f"- Base: {run.base.n_parameters:,} parameters, weights SHA-256 `{run.base.sha256}`\n"
        f"- Adapter: weights SHA-256 `{run.adapter.sha256}`"
    )


def _results(exam: Exam) -> str:
    lines = ["| Measure | Base | Tuned | Change |", "| --- | ---: | ---: | ---: |"]
    lines += [f"| {m.name} | {m.base} | {m.tuned} | {m.change} |" for m in measures(exam.overall)]
    rows = "held-out" if exam.is_held_out else "training"
    folds = ""
    if exam.folds:
        differences = f"Difference in each fold: {fold_differences(exam)}."
        folds = f"{folds_words(exam)} {differences}\n\n"
    size = pieces_words(exam.overall.n_examples, exam.overall.n_clusters, rows)
    answered = f"{answered}. " if (answered := answered_words(exam)) else ""
    return (
        f"{folds}{size}. {answered}Difference: "
        f"{difference_words(exam.overall.nll_per_token)}; negative is better.\n\n"
        + "\n".join(lines)
        + f"\n\nForgetting: {forgetting_words(exam)}; {difference_words(exam.forgetting)}"
        f"{_divergence(exam)}.\n\n{_calls(exam)}{_skills(exam)}"
        "report.html shows answers side by side; exam.json has every example."
    )


def _divergence(exam: Exam) -> str:
    return f"; {divergence_words(exam.divergence)}" if exam.divergence else ""


def _calls(exam: Exam) -> str:
    if exam.overall.calls is None:
        return ""
    found = exam.overall.calls
    lines = ["| Calls of tools | Base → tuned | Change in points |", "| --- | ---: | ---: |"]
    lines += [f"| {it.name} | {it.shares} | {it.change} |" for it in call_lines(found)]
    table = "\n".join(lines)
    return f"Tools: {calls_words(found)}.\n\n{table}\n\n"


def _skills(exam: Exam) -> str:
    if exam.skills is None:
        return ""
    found = skill_table(exam.skills)
    lines = [
        "| Skill | Questions | Base → tuned | Change in points | Result |",
        "| --- | ---: | ---: | ---: | --- |",
        *(
            f"| {_text(it.name)} | {it.n_items} | {it.shares} | {it.change} | {it.status} |"
            for it in found.lines
        ),
    ]
    table, notes = "\n".join(lines), " ".join(found.notes)
    return f"Skills: {found.summary}.\n\n{table}\n\n{notes}\n\n"


def _use(run: RunRecord) -> str:
    base = hub_name(run.base.name) or _BASE_PLACEHOLDER
    ends = f", eos_token_id={list(run.stop_token_ids)}" if run.stop_token_ids else ""
    snippet = f"""\
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

base, adapter = {json.dumps(base)}, "path/to/this/folder"
tokenizer = AutoTokenizer.from_pretrained(adapter)
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter)
messages = [{{"role": "user", "content": "Your question"}}]
prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
ids = tokenizer(prompt, return_tensors="pt", add_special_tokens=False)
answer = model.generate(**ids, max_new_tokens=80, do_sample=False{ends})[0]
print(tokenizer.decode(answer[ids["input_ids"].shape[1] :], skip_special_tokens=True))"""
    where = (
        "The base is the folder `finetuning_exam/model/builtin` in the installed package.\n\n"
        if run.base.name == BUILTIN_MODEL
        else ""
    )
    return where + _block(snippet, "python") + _prompt(run)


def _prompt(run: RunRecord) -> str:
    """The prompt word for word, and what of it changes from day to day."""
    if run.template == "plain":
        prompt = prompt_func(Example("Your question", "", 0, ""))
        return f"\n\nThe prompt is:\n\n{_block(prompt, 'text')}"
    if run.template_date is None:
        return ""
    day = run.template_date.partition("T")[0]
    return (
        f"\n\nThe chat template writes today's date into each prompt. In training and in the exam "
        f"it was {_code(day)}."
    )


def _data(run: RunRecord) -> str:
    data = run.data
    names = ", ".join(map(_file_name, data.paths))
    lines = [f"- Training file: {_code(names)}, SHA-256 `{data.sha256}`"]
    if data.exam_path is not None:
        exam = _code(_file_name(data.exam_path))
        lines.append(f"- Exam file: {exam}, SHA-256 `{data.exam_sha256}`")
    lines.append(
        f"- Rows: {data.n_train:,} for training, {data.n_validation:,} for validation, "
        f"{data.n_exam:,} for the exam"
    )
    if run.settings.folds:
        lines.append(
            f"- The exam has the rows of the training file, in {run.settings.folds} folds; each "
            "was examined by an adapter trained on the others"
        )
    if data.exam_is_training:
        lines.append("- The exam was taken on the training rows; nothing was held out")
    elif data.exam_rows_also_taught:
        lines.append(
            f"- {counted(data.exam_rows_also_taught, 'question')} of the exam file also in the "
            "training file: excluded from the exam"
        )
    return "\n".join(lines)


def _file_name(path: str) -> str:
    """Return the name of a file without its place; the whole name of a Hub dataset."""
    return path if is_hub_name(path) else PurePath(path).name


def _recipe(run: RunRecord) -> str:
    settings, plan, result = run.settings, run.plan, run.result
    modules = " ".join(settings.lora_target_modules)
    rows = rows_in_step(settings, run.data.n_train)
    trained = "answers only" if settings.completion_only_loss else "prompts and answers"
    folded = ", system texts before the first question" if settings.system_turns == "fold" else ""
    early = " (stopped early)" if result.stopped_early else ""
    scaled = "" if result.adapter_scale == 1 else f", scaled by {result.adapter_scale:g}"
    return "\n".join(
        (
            f"- LoRA: r {settings.lora_r}, alpha {settings.lora_alpha}, "
            f"dropout {settings.lora_dropout:g}, target modules {_code(modules)} "
            f"({run.adapter.n_modules} adapted)",
            f"- Loss on {trained}; template `{run.template}`{folded}",
            f"- AdamW, peak learning rate {plan.learning_rate:g}, "
            f"{settings.lr_scheduler_type} schedule, {counted(plan.warmup_steps, 'warmup step')}",
            f"- {counted(rows, 'row')} per step, {result.steps:,} of "
            f"{counted(plan.total_steps, 'step')}"
            f"{early}; step {result.best_step:,} was kept{scaled}",
            f"- Validation loss: first {number(result.first_validation_loss)}, "
            f"best {number(result.best_validation_loss)}; seed {settings.seed}",
            f"- {run.device}, {run.dtype}, {counted(run.threads, 'thread')}; "
            f"{counted(result.tokens, 'token')} in "
            f"{number(result.seconds, 1)} s",
            "- " + ", ".join(f"{name} {version}" for name, version in library_versions()),
        )
    )


def _text(text: str) -> str:
    """User text as plain Markdown text, with every special character escaped."""
    return _MARKDOWN.sub(r"\\\1", on_one_line(text))


def _code(text: str) -> str:
    """User text as a code span, fenced by more backticks than its longest run of them."""
    fence = "`" * (_longest_run(text) + 1)
    return f"{fence} {on_one_line(text)} {fence}" if "`" in text else f"`{on_one_line(text)}`"


def _block(text: str, language: str) -> str:
    """User text as a code block, fenced by more backticks than its longest run of them."""
    fence = "`" * max(3, _longest_run(text) + 1)
    return f"{fence}{language}\n{visible(text)}\n{fence}"


def _longest_run(text: str) -> int:
    return max((len(run) for run in re.findall("`+", text)), default=0)
