"""Specification of the files for other tools that are read without any flag.

The records follow the documentation of TRL (dataset_formats), Axolotl (docs/dataset-formats),
LlamaFactory (data/README.md), mlx-lm (mlx_lm/LORA.md) and ms-swift (Custom-dataset).
"""

from __future__ import annotations

import pytest

from finetuning_exam.data.findings import Fault
from finetuning_exam.data.kinds import Kind
from finetuning_exam.data.reading.formats import Place, to_examples
from finetuning_exam.data.reading.layouts import find_layout
from finetuning_exam.data.records import Example, Turn

Row = dict[str, object]

ASK = {"role": "user", "content": "What color is the sky?"}
SAY = {"role": "assistant", "content": "It is blue."}
SYSTEM = {"role": "system", "content": "Be kind."}
HUMAN = {"from": "human", "value": "What color is the sky?"}
GPT = {"from": "gpt", "value": "It is blue."}
QUESTION, ANSWER = "What color is the sky?", "It is blue."
PLACE = Place("d.jsonl", 1)


def _example(question: str = QUESTION, answer: str = ANSWER, **more: object) -> Example:
    return Example(question, answer, 1, "d.jsonl", **more)  # type: ignore[arg-type]


BE_KIND = (Turn("system", "Be kind."),)
ROUND = (Turn("user", "Hi."), Turn("assistant", "Hello."))

READ: dict[str, tuple[Row, str, Example]] = {
    "TRL language modelling": (
        {"text": "The sky is blue."},
        "plain text (text)",
        _example("", "The sky is blue."),
    ),
    "TRL conversational language modelling": (
        {"messages": [ASK, SAY]},
        "messages (role, content)",
        _example(),
    ),
    "TRL prompt-completion": (
        {"prompt": "The sky is", "completion": " blue."},
        "prompt → completion",
        _example("The sky is", " blue."),
    ),
    "TRL conversational prompt-completion": (
        {"prompt": [ASK], "completion": [SAY]},
        "prompt → completion",
        _example(),
    ),
    "Axolotl alpaca": (
        {"instruction": QUESTION, "input": "At noon.", "output": ANSWER},
        "instruction → output",
        _example(input="At noon."),
    ),
    "Axolotl alpaca without input": (
        {"instruction": QUESTION, "input": "", "output": ANSWER, "text": "### …"},
        "instruction → output",
        _example(),
    ),
    "Axolotl gpteacher": (
        {"instruction": QUESTION, "input": "At noon.", "response": ANSWER},
        "instruction → response",
        _example(input="At noon."),
    ),
    "Axolotl jeopardy": (
        {"question": QUESTION, "category": "nature", "answer": ANSWER},
        "question → answer",
        _example(),
    ),
    "Axolotl context_qa.load_v2": (
        {"context": "It is noon.", "question": QUESTION, "answer": ANSWER},
        "question → answer",
        _example(input="It is noon."),
    ),
    "Axolotl open_orca": (
        {"system_prompt": "Be kind.", "question": QUESTION, "response": ANSWER},
        "question → response",
        _example(earlier=BE_KIND),
    ),
    "Axolotl sharegpt": (
        {"conversations": [HUMAN, GPT]},
        "conversations (from, value)",
        _example(),
    ),
    "Axolotl chat_template": (
        {"conversations": [SYSTEM, ASK, SAY]},
        "conversations (role, content)",
        _example(earlier=BE_KIND),
    ),
    "Axolotl pygmalion": (
        {"conversations": [{"role": "human", "value": "Q"}, {"role": "gpt", "value": "A"}]},
        "conversations (role, content)",
        _example("Q", "A"),
    ),
    "Axolotl completion and pretraining": (
        {"text": "first row\n"},
        "plain text (text)",
        _example("", "first row\n"),
    ),
    "LlamaFactory alpaca": (
        {
            "instruction": QUESTION,
            "input": "At noon.",
            "output": ANSWER,
            "system": "Be kind.",
            "history": [["Hi.", "Hello."]],
        },
        "instruction → output",
        _example(input="At noon.", earlier=(*BE_KIND, *ROUND)),
    ),
    "LlamaFactory sharegpt": (
        {"conversations": [HUMAN, GPT], "system": "Be kind.", "tools": "[]"},
        "conversations (from, value)",
        _example(earlier=BE_KIND),
    ),
    "LlamaFactory openai": (
        {"messages": [SYSTEM, ASK, SAY]},
        "messages (role, content)",
        _example(earlier=BE_KIND),
    ),
    "LlamaFactory pre-training": (
        {"text": "document"},
        "plain text (text)",
        _example("", "document"),
    ),
    "mlx-lm chat": (
        {"messages": [SYSTEM, ASK, SAY]},
        "messages (role, content)",
        _example(earlier=BE_KIND),
    ),
    "mlx-lm completions": (
        {"prompt": "What is the capital of France?", "completion": "Paris."},
        "prompt → completion",
        _example("What is the capital of France?", "Paris."),
    ),
    "mlx-lm text": (
        {"text": "This is an example for the model."},
        "plain text (text)",
        _example("", "This is an example for the model."),
    ),
    "ms-swift messages": (
        {"messages": [{**ASK, "content": "Hi."}, {**SAY, "content": "Hello."}, ASK, SAY]},
        "messages (role, content)",
        _example(earlier=ROUND),
    ),
    "ms-swift sharegpt": (
        {
            "system": "Be kind.",
            "conversation": [
                {"human": "Hi.", "assistant": "Hello."},
                {"human": QUESTION, "assistant": ANSWER},
            ],
        },
        "conversation (human, assistant)",
        _example(earlier=(*BE_KIND, *ROUND)),
    ),
    "ms-swift query-response": (
        {
            "system": "Be kind.",
            "query": QUESTION,
            "response": ANSWER,
            "history": [["Hi.", "Hello."]],
        },
        "query → response",
        _example(earlier=(*BE_KIND, *ROUND)),
    ),
    "Dolly": (
        {"instruction": QUESTION, "context": "", "response": ANSWER, "category": "open_qa"},
        "instruction → response",
        _example(),
    ),
    "Self-Instruct tasks": (
        {
            "id": "seed_task_0",
            "name": "sky",
            "instruction": QUESTION,
            "instances": [{"input": "", "output": ANSWER}],
            "is_classification": False,
        },
        "instruction → instances",
        _example(),
    ),
}


@pytest.mark.parametrize(("row", "words", "example"), READ.values(), ids=READ)
def test_files_of_other_tools_are_read(row: Row, words: str, example: Example) -> None:
    """A record in a documented format of another tool is detected and read completely."""
    layout = find_layout([row] * 3, "auto", None, None)
    assert layout.words == words
    assert to_examples(row, layout, PLACE) == (example,)


NEEDED = "expected one prompt and one answer, as text"

REFUSED: dict[str, tuple[Row, Kind, str]] = {
    "TRL prompt-only": (
        {"prompt": "The sky is"},
        Kind.NOT_INSTRUCTIONS,
        "field 'prompt' has no answer; expected one in field 'completion'",
    ),
    "TRL preference": (
        {"prompt": "The sky is", "chosen": " blue.", "rejected": " green."},
        Kind.NOT_INSTRUCTIONS,
        f"fields 'chosen' and 'rejected' are for preference training; {NEEDED}",
    ),
    "TRL unpaired preference": (
        {"prompt": [ASK], "completion": [SAY], "label": True},
        Kind.NOT_INSTRUCTIONS,
        f"field 'label' is for training on rated answers; {NEEDED}",
    ),
    "TRL stepwise supervision": (
        {"prompt": "Which is larger?", "completions": ["9.8.", "9.11."], "labels": [True, False]},
        Kind.NOT_INSTRUCTIONS,
        f"fields 'completions' and 'labels' are for training on scores, steps or tokens; {NEEDED}",
    ),
    "Axolotl oasst": (
        {"INSTRUCTION": "q", "RESPONSE": "a"},
        Kind.MISSPELT_FIELD,
        "unknown field 'INSTRUCTION'; did you mean 'instruction'?",
    ),
    "Axolotl summarizetldr": (
        {"article": "q", "summary": "a"},
        Kind.MISSING_FIELD,
        "missing field 'instruction' (fields: 'article', 'summary')",
    ),
    "Axolotl metharme": (
        {"prompt": "q", "generation": "a"},
        Kind.MISSING_FIELD,
        "missing field 'completion' (fields: 'prompt', 'generation')",
    ),
    "Axolotl input_output": (
        {"segments": [{"label": True, "text": "<s>Hello\n"}, {"label": False, "text": "hi"}]},
        Kind.NOT_INSTRUCTIONS,
        f"field 'segments' is for training on scores, steps or tokens; {NEEDED}",
    ),
    "Axolotl pre-tokenized": (
        {"input_ids": [271, 299], "attention_mask": [1, 1], "labels": [271, -100]},
        Kind.NOT_INSTRUCTIONS,
        f"fields 'input_ids' and 'labels' are for training on scores, steps or tokens; {NEEDED}",
    ),
    "LlamaFactory preference": (
        {"conversations": [HUMAN], "chosen": GPT, "rejected": GPT},
        Kind.NOT_INSTRUCTIONS,
        f"fields 'chosen' and 'rejected' are for preference training; {NEEDED}",
    ),
    "LlamaFactory KTO": (
        {"instruction": "q", "input": "", "output": "a", "kto_tag": False},
        Kind.NOT_INSTRUCTIONS,
        f"field 'kto_tag' is for training on rated answers; {NEEDED}",
    ),
    "LlamaFactory multimodal": (
        {"instruction": "q", "output": "a", "images": ["cat.png"]},
        Kind.UNSUPPORTED,
        f"field 'images' is for multimodal training; {NEEDED}",
    ),
    "ms-swift pre-training": (
        {"messages": [SAY]},
        Kind.BAD_TURNS,
        "turn 1 of 'messages' is an assistant turn; expected a user turn",
    ),
    "ms-swift DPO": (
        {"messages": [ASK, SAY], "rejected_response": "I don't know"},
        Kind.NOT_INSTRUCTIONS,
        f"field 'rejected_response' is for preference training; {NEEDED}",
    ),
    "ms-swift GRPO": (
        {"messages": [SYSTEM, ASK]},
        Kind.BAD_TURNS,
        "the conversation ends with an unanswered user turn",
    ),
    "ms-swift classification": (
        {"messages": [ASK], "label": 1},
        Kind.BAD_TURNS,
        "the conversation ends with an unanswered user turn",
    ),
    "OpenAI with images": (
        {"messages": [{"role": "user", "content": [{"type": "image_url"}]}, SAY]},
        Kind.UNSUPPORTED,
        "part 1 of field 'content' of turn 1 of 'messages' has type 'image_url'; "
        "only text is supported",
    ),
}


@pytest.mark.parametrize(("row", "kind", "what"), REFUSED.values(), ids=REFUSED)
def test_records_that_cannot_be_read_completely_are_refused(
    row: Row, kind: Kind, what: str
) -> None:
    """They are refused by name, never read in part."""
    layout = find_layout([row] * 3, "auto", None, None)
    with pytest.raises(Fault) as caught:
        to_examples(row, layout, PLACE)
    assert (caught.value.kind, caught.value.detail) == (kind, what)
