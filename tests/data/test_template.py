"""Specification of the text a model sees."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from finetuning_exam.data.records import Example
from finetuning_exam.data.template import (
    Rendered,
    choose_template,
    formatting_func,
    prompt_func,
    render,
)
from finetuning_exam.errors import ModelError

MakeTokenizer = Callable[..., PreTrainedTokenizerFast]

CHATML = (
    "{% for message in messages %}"
    "<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
THINKING = CHATML.replace("assistant\n{% endif", "assistant\n<think>\n{% endif")
EXAMPLE = Example("What does ls do?", "It lists the files.", 1, "d.jsonl")
WITH_INPUT = Example("Explain the flag.", "It is long.", 2, "d.jsonl", input="ls -l")


def test_the_plain_template_word_for_word() -> None:
    """The plain template is `### Instruction:`, `### Response:`, with an `### Input:` if given."""
    assert formatting_func(EXAMPLE) == (
        "### Instruction:\nWhat does ls do?\n\n### Response:\nIt lists the files."
    )
    assert formatting_func(WITH_INPUT) == (
        "### Instruction:\nExplain the flag.\n\n### Input:\nls -l\n\n### Response:\nIt is long."
    )


@settings(deadline=None)
@given(instruction=st.text(), given_input=st.text(), answer=st.text())
def test_a_record_is_its_prompt_half_and_its_answer(
    instruction: str, given_input: str, answer: str
) -> None:
    """The whole text is the prompt half followed by the answer, with no character changed."""
    example = Example(instruction, answer, 1, "d.jsonl", input=given_input)
    assert formatting_func(example) == prompt_func(example) + answer
    assert instruction in prompt_func(example)
    assert given_input in prompt_func(example)


def test_the_plain_prompt_is_rendered_from_the_same_source(make_tokenizer: MakeTokenizer) -> None:
    """`render` in the plain template gives exactly `prompt_func` and the answer."""
    rendered = render(WITH_INPUT, "plain", make_tokenizer(chat_template=CHATML))
    assert rendered == Rendered(prompt_func(WITH_INPUT), "It is long.")


def test_auto_takes_the_chat_template_if_there_is_one(make_tokenizer: MakeTokenizer) -> None:
    """`auto` is `chat` for a tokenizer with a chat template and `plain` for one without."""
    assert choose_template("auto", make_tokenizer(chat_template=CHATML)) == "chat"
    assert choose_template("auto", make_tokenizer()) == "plain"
    assert choose_template("plain", make_tokenizer(chat_template=CHATML)) == "plain"
    assert choose_template("chat", make_tokenizer(chat_template=CHATML)) == "chat"


def test_chat_without_a_chat_template_is_an_error(make_tokenizer: MakeTokenizer) -> None:
    """Who asks for a chat template that is not there is told so."""
    with pytest.raises(ModelError) as caught:
        choose_template("chat", make_tokenizer())
    assert str(caught.value) == "The tokenizer has no chat template. Use --template plain."
    assert caught.value.exit_code == 2


def test_a_chat_template_is_cut_after_the_generation_prompt(make_tokenizer: MakeTokenizer) -> None:
    """The prompt half ends with the generation prompt; the answer half ends the turn."""
    tokenizer = make_tokenizer(chat_template=CHATML)
    assert render(WITH_INPUT, "chat", tokenizer) == Rendered(
        "<|im_start|>user\nExplain the flag.\n\nls -l<|im_end|>\n<|im_start|>assistant\n",
        "It is long.<|im_end|>\n",
    )


def test_a_question_without_an_answer_has_the_same_prompt(make_tokenizer: MakeTokenizer) -> None:
    """At inference the prompt is that of the training row, and the answer half is empty."""
    tokenizer = make_tokenizer(chat_template=CHATML)
    asked = Example(EXAMPLE.instruction, "", 1, "argument")
    assert render(asked, "chat", tokenizer) == Rendered(
        render(EXAMPLE, "chat", tokenizer).prompt, ""
    )


def test_a_template_that_wants_a_full_answer_gets_one(make_tokenizer: MakeTokenizer) -> None:
    """For a question without an answer the template is still shown one, which is then left out."""
    picky = "{% if not messages[-1].content %}{{ raise_exception('empty turn') }}{% endif %}"
    asked = Example(EXAMPLE.instruction, "", 1, "argument")
    rendered = render(asked, "chat", make_tokenizer(chat_template=picky + CHATML))
    assert rendered.prompt.endswith("<|im_start|>assistant\n")
    assert rendered.answer == ""


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{{ raise_exception('only\ntwo roles') }}", "only"),
        ("{{ raise_exception('') }}", "TemplateError"),
        ("{{ messages[0].content / 2 }}", "unsupported operand type(s) for /: 'str' and 'int'"),
        ("{{ messages[7].content }}", "list object has no element 7"),
        ("{% endfor %}", "Encountered unknown tag 'endfor'."),
        (
            "{{ ''.__class__.__mro__ }}",
            "access to attribute '__class__' of 'str' object is unsafe.",
        ),
    ],
)
def test_a_template_that_raises_is_one_line(
    make_tokenizer: MakeTokenizer, template: str, reason: str
) -> None:
    """Whatever a chat template raises becomes one sentence with the first line of its reason."""
    with pytest.raises(ModelError) as caught:
        render(EXAMPLE, "chat", make_tokenizer(chat_template=template))
    told = reason.rstrip(".")
    assert str(caught.value) == f"The chat template fails: {told}. Use --template plain."


def test_a_thinking_template_is_refused(make_tokenizer: MakeTokenizer) -> None:
    """A template that opens a thought only in the generation prompt is a hard error."""
    with pytest.raises(ModelError) as caught:
        render(EXAMPLE, "chat", make_tokenizer(chat_template=THINKING))
    assert str(caught.value) == (
        "With this chat template the prompt is not a prefix of the whole conversation, so "
        "training and inference would see different prompts. Use --template plain."
    )


def test_a_thinking_template_is_refused_at_inference_too(make_tokenizer: MakeTokenizer) -> None:
    """The same template is refused for a question without an answer."""
    asked = Example(EXAMPLE.instruction, "", 1, "argument")
    with pytest.raises(ModelError, match="the prompt is not a prefix"):
        render(asked, "chat", make_tokenizer(chat_template=THINKING))


@pytest.mark.parametrize(
    "template",
    [
        pytest.param("Q: {{ messages[0].content }} A: ", id="always"),
        pytest.param(
            "Q: {{ messages[0].content }} A: {% if messages|length > 1 %}<|im_end|>{% endif %}",
            id="but ends the turn",
        ),
    ],
)
def test_a_template_that_leaves_the_answer_out_is_refused(
    make_tokenizer: MakeTokenizer, template: str
) -> None:
    """A template that shows no assistant turn would train on nothing: a hard error."""
    with pytest.raises(ModelError):
        render(EXAMPLE, "chat", make_tokenizer(chat_template=template))
