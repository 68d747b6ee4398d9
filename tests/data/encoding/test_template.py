"""Specification of the text a model sees."""

from __future__ import annotations

import re
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from encoders import shape_of
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from finetuning_exam.data.encoding.encoder import make_encoder
from finetuning_exam.data.encoding.template import (
    Rendered,
    Segment,
    choose_template,
    formatting_func,
    prompt_func,
    render,
)
from finetuning_exam.data.kinds import Kind
from finetuning_exam.data.records import Example, Turn
from finetuning_exam.errors import ModelError

MakeTokenizer = Callable[..., PreTrainedTokenizerFast]

CHATML = (
    "{% for message in messages %}"
    "<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
THINKING = CHATML.replace("assistant\n{% endif", "assistant\n<think>\n{% endif")
SYSTEM = Turn("system", "Be brief.")
TALK = Example(
    "And -a?",
    "It shows hidden ones.",
    3,
    "d.jsonl",
    input="ls -a",
    earlier=(SYSTEM, Turn("user", "What does ls do?"), Turn("assistant", "It lists files.")),
)
EXAMPLE = Example("What does ls do?", "It lists the files.", 1, "d.jsonl")
WITH_INPUT = Example("Explain the flag.", "It is long.", 2, "d.jsonl", input="ls -l")


def _rendered(prompt: str, answer: str) -> Rendered:
    return Segment(prompt, is_answer=False), Segment(answer, is_answer=True)


def test_the_plain_template_word_for_word() -> None:
    """The plain template is `### Instruction:`, `### Response:`, with an `### Input:` if given."""
    assert formatting_func(EXAMPLE) == (
        "### Instruction:\nWhat does ls do?\n\n### Response:\nIt lists the files."
    )
    assert formatting_func(WITH_INPUT) == (
        "### Instruction:\nExplain the flag.\n\n### Input:\nls -l\n\n### Response:\nIt is long."
    )


def test_a_plain_conversation_word_for_word(make_tokenizer: MakeTokenizer) -> None:
    """A system turn comes first under `### System:`; a blank line separates the exchanges."""
    rendered = render(TALK)
    assert rendered == (
        Segment(
            "### System:\nBe brief.\n\n### Instruction:\nWhat does ls do?\n\n### Response:\n",
            is_answer=False,
        ),
        Segment("It lists files.", is_answer=True),
        Segment(
            "\n\n### Instruction:\nAnd -a?\n\n### Input:\nls -a\n\n### Response:\n", is_answer=False
        ),
        Segment("It shows hidden ones.", is_answer=True),
    )
    assert formatting_func(TALK) == "".join(segment.text for segment in rendered)
    assert formatting_func(TALK) == prompt_func(TALK) + TALK.answer


def test_a_system_turn_alone_stands_before_the_question() -> None:
    """An example with a system turn and no earlier exchange is one exchange after it."""
    example = Example("Hi", "Ho", 1, "d.jsonl", earlier=(SYSTEM,))
    assert formatting_func(example) == (
        "### System:\nBe brief.\n\n### Instruction:\nHi\n\n### Response:\nHo"
    )


def test_a_plain_text_has_no_template(make_tokenizer: MakeTokenizer) -> None:
    """An example without a question and earlier turns is rendered as its text alone in any
    template.
    """
    text = Example("", "Once upon a time.", 1, "d.jsonl")
    for shape in (None, shape_of(make_tokenizer(chat_template=CHATML))):
        rendered = render(text, shape)
        assert rendered == (Segment("Once upon a time.", is_answer=True),)
    assert (prompt_func(text), formatting_func(text)) == ("", "Once upon a time.")


@settings(deadline=None)
@given(instruction=st.text(min_size=1), given_input=st.text(), answer=st.text())
def test_an_example_is_its_prompt_half_and_its_answer(
    instruction: str, given_input: str, answer: str
) -> None:
    """The whole text is the prompt half followed by the answer, with no character changed."""
    example = Example(instruction, answer, 1, "d.jsonl", input=given_input)
    assert formatting_func(example) == prompt_func(example) + answer
    assert instruction in prompt_func(example)
    assert given_input in prompt_func(example)


def test_the_plain_prompt_is_rendered_from_the_same_source(make_tokenizer: MakeTokenizer) -> None:
    """`render` in the plain template returns exactly `prompt_func` and the answer."""
    rendered = render(WITH_INPUT)
    assert rendered == _rendered(prompt_func(WITH_INPUT), "It is long.")


def test_auto_takes_the_chat_template_if_there_is_one(make_tokenizer: MakeTokenizer) -> None:
    """`auto` is `chat` for a tokenizer with a chat template and `plain` for one without."""
    assert choose_template("auto", make_tokenizer(chat_template=CHATML)) == "chat"
    assert choose_template("auto", make_tokenizer()) == "plain"
    assert choose_template("plain", make_tokenizer(chat_template=CHATML)) == "plain"
    assert choose_template("chat", make_tokenizer(chat_template=CHATML)) == "chat"


def test_chat_without_a_chat_template_is_an_error(make_tokenizer: MakeTokenizer) -> None:
    """Asking for a missing chat template is an error."""
    with pytest.raises(ModelError) as caught:
        choose_template("chat", make_tokenizer())
    assert str(caught.value) == "The tokenizer has no chat template. Use --template plain."
    assert caught.value.exit_code == 2


def test_a_chat_template_is_cut_after_the_generation_prompt(make_tokenizer: MakeTokenizer) -> None:
    """The prompt half ends with the generation prompt; the answer half ends the turn."""
    tokenizer = make_tokenizer(chat_template=CHATML)
    assert render(WITH_INPUT, shape_of(tokenizer)) == _rendered(
        "<|im_start|>user\nExplain the flag.\n\nls -l<|im_end|>\n<|im_start|>assistant\n",
        "It is long.<|im_end|>\n",
    )


def test_a_question_without_an_answer_has_the_same_prompt(make_tokenizer: MakeTokenizer) -> None:
    """At inference the prompt is that of the training row, and the answer half is empty."""
    tokenizer = make_tokenizer(chat_template=CHATML)
    asked = Example(EXAMPLE.instruction, "", 1, "argument")
    prompt, _answer = render(EXAMPLE, shape_of(tokenizer))
    assert render(asked, shape_of(tokenizer)) == _rendered(prompt.text, "")


def test_a_template_that_wants_a_full_answer_gets_one(make_tokenizer: MakeTokenizer) -> None:
    """For a question without an answer the template is still given one, which is then removed."""
    picky = "{% if not messages[-1].content %}{{ raise_exception('empty turn') }}{% endif %}"
    asked = Example(EXAMPLE.instruction, "", 1, "argument")
    prompt, answer = render(asked, shape_of(make_tokenizer(chat_template=picky + CHATML)))
    assert prompt.text.endswith("<|im_start|>assistant\n")
    assert answer.text == ""


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
    """Any exception of a chat template becomes one sentence with the first line of its reason."""
    with pytest.raises(ModelError) as caught:
        render(EXAMPLE, shape_of(make_tokenizer(chat_template=template)))
    expected = reason.rstrip(".")
    assert str(caught.value) == f"The chat template failed: {expected}. Use --template plain."


def test_a_thought_that_the_prompt_opens_is_closed_before_the_answer(
    make_tokenizer: MakeTokenizer,
) -> None:
    """A template that opens a thought in the generation prompt alone gets an empty one."""
    shape = shape_of(make_tokenizer(chat_template=THINKING))
    given, answer = render(EXAMPLE, shape)
    assert given.text.endswith("assistant\n<think>\n\n</think>\n\n")
    assert answer.text.startswith(EXAMPLE.answer)
    asked = Example(EXAMPLE.instruction, "", 1, "argument")
    assert render(asked, shape)[0].text.endswith("assistant\n<think>\n\n</think>\n\n")


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
    """A template without the assistant turn would train on nothing, and is an error."""
    with pytest.raises(ModelError):
        render(EXAMPLE, shape_of(make_tokenizer(chat_template=template)))


# Conversations in chat templates


def test_a_chat_conversation_word_for_word(make_tokenizer: MakeTokenizer) -> None:
    """Each assistant turn is a segment; all segments together are the template's text."""
    tokenizer = make_tokenizer(chat_template=CHATML)
    rendered = render(TALK, shape_of(tokenizer))
    assert [segment.is_answer for segment in rendered] == [False, True, False, True]
    assert rendered[1].text == "It lists files.<|im_end|>\n"
    assert rendered[2].text == (
        "<|im_start|>user\nAnd -a?\n\nls -a<|im_end|>\n<|im_start|>assistant\n"
    )
    messages = [{"role": turn.role, "content": turn.text} for turn in TALK.earlier]
    messages += [
        {"role": "user", "content": "And -a?\n\nls -a"},
        {"role": "assistant", "content": TALK.answer},
    ]
    whole = tokenizer.apply_chat_template(messages, tokenize=False)
    assert "".join(segment.text for segment in rendered) == whole
    assert whole.startswith("<|im_start|>system\nBe brief.<|im_end|>\n")


def test_a_template_that_rewrites_earlier_turns_has_one_answer(
    make_tokenizer: MakeTokenizer,
) -> None:
    """Where a shorter conversation is no prefix of the longer one, its answers are only given."""
    template = CHATML.replace(
        "{{ message.content }}",
        "{% if message.role == 'assistant' and loop.last %}<think></think>{% endif %}"
        "{{ message.content }}",
    )
    tokenizer = make_tokenizer(chat_template=template)
    assert len(render(EXAMPLE, shape_of(tokenizer))) == 2
    given, answer = render(TALK, shape_of(tokenizer))
    assert TALK.earlier[-1].text in given.text
    assert given.text.endswith("<think></think>")
    assert answer.text.startswith(TALK.answer)


def test_a_template_that_refuses_system_turns_is_named(make_tokenizer: MakeTokenizer) -> None:
    """A template that rejects the system turn is distinguished from one that fails."""
    strict = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('No system role') }}{% endif %}"
    )
    with pytest.raises(ModelError) as caught:
        render(TALK, shape_of(make_tokenizer(chat_template=strict + CHATML)))
    assert str(caught.value) == (
        "The chat template rejects system turns: No system role. "
        "Use --system_turns fold, which puts it before the first question, or --template plain."
    )
    make_encoder(make_tokenizer(chat_template=strict + CHATML), "chat").encode(EXAMPLE)
    always = make_tokenizer(chat_template="{{ raise_exception('No') }}")
    with pytest.raises(ModelError, match=r"^The chat template failed: No\."):
        render(TALK, shape_of(always))


@pytest.mark.parametrize(
    ("role", "name"),
    [("system", "system turn"), ("user", "question"), ("assistant", "answer")],
)
def test_a_template_that_drops_a_turn_is_refused(
    make_tokenizer: MakeTokenizer, role: str, name: str
) -> None:
    """A turn that the template drops would be lost silently; the error names it."""
    template = CHATML.replace(
        "{{ message.content }}",
        "{% if message.role != '" + role + "' %}{{ message.content }}{% endif %}",
    )
    with pytest.raises(ModelError) as caught:
        render(TALK, shape_of(make_tokenizer(chat_template=template)))
    hint = Kind.SYSTEM_REFUSED.hint if role == "system" else "Use --template plain."
    assert str(caught.value) == (f"The chat template does not render the {name} verbatim. {hint}")


def test_a_dropped_system_turn_is_detected(
    make_tokenizer: MakeTokenizer,
) -> None:
    """A template that drops system turns is refused for data with one, even if its text is also in
    the question, and is accepted for data without.
    """
    template = CHATML.replace("in messages", "in messages if message.role != 'system'")
    encoder = make_encoder(make_tokenizer(chat_template=template), "chat")
    assert encoder.encode(EXAMPLE).n_supervised
    repeated = Example("Be brief. What is ls?", "A list.", 1, "d.jsonl", earlier=(SYSTEM,))
    with pytest.raises(ModelError) as caught:
        encoder.encode(repeated)
    assert str(caught.value) == (
        "The chat template does not render the system turn verbatim. "
        "Use --system_turns fold, which puts it before the first question, or --template plain."
    )


def test_a_prompt_that_depends_on_the_answer_is_refused(
    make_tokenizer: MakeTokenizer,
) -> None:
    """The text before an answer must not depend on it: at inference there is none yet."""
    template = CHATML.replace(
        "{{ message.content }}",
        "{% if 'lists' in message.content %}[list] {% endif %}{{ message.content }}",
    )
    tokenizer = make_tokenizer(chat_template=template)
    assert len(render(WITH_INPUT, shape_of(tokenizer))) == 2
    with pytest.raises(ModelError, match="the prompt is not a prefix of the whole"):
        render(EXAMPLE, shape_of(tokenizer))


# Limits of foreign code


def test_a_template_that_loops_is_stopped(
    make_tokenizer: MakeTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An endless template is an error within its time limit, and leaves no timer behind."""
    monkeypatch.setattr("finetuning_exam.data.encoding.chat_template.TEMPLATE_SECONDS", 0.2)
    loop = "{% for i in range(90000) %}{% for j in range(90000) %}{% endfor %}{% endfor %}"
    before = signal.getsignal(signal.SIGVTALRM)
    started = time.process_time()
    with pytest.raises(ModelError) as caught:
        render(EXAMPLE, shape_of(make_tokenizer(chat_template=loop + CHATML)))
    assert time.process_time() - started < 5
    assert str(caught.value) == (
        "The chat template did not finish within 0.2 seconds. Use --template plain."
    )
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0.0, 0.0)
    assert signal.getsignal(signal.SIGVTALRM) == before


class _Patient:
    """Renders only after another thread has worked for a while."""

    chat_template: str | None = "patient"

    def apply_chat_template(self, conversation: list[dict[str, object]], **options: object) -> str:
        def work() -> None:
            while time.thread_time() < 0.3:
                sum(range(10_000))  # the timer counts work outside the system's own

        other = threading.Thread(target=work)
        other.start()
        other.join()
        return "".join(f"{it['role']}: {it['content']}\n" for it in conversation) + (
            "assistant: " if options["add_generation_prompt"] else ""
        )


def test_the_work_of_other_threads_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the CPU time of the rendering thread counts."""
    monkeypatch.setattr("finetuning_exam.data.encoding.chat_template.TEMPLATE_SECONDS", 0.1)
    assert len(render(EXAMPLE, shape_of(_Patient()))) == 2
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0.0, 0.0)


def test_a_template_works_in_another_thread(make_tokenizer: MakeTokenizer) -> None:
    """Outside the main thread there is no time limit, and rendering works."""
    tokenizer = make_tokenizer(chat_template=CHATML)
    with ThreadPoolExecutor() as pool:
        found = pool.submit(render, EXAMPLE, shape_of(tokenizer)).result()
    assert found == render(EXAMPLE, shape_of(tokenizer))


@pytest.mark.parametrize("role", ["user", "assistant"])
def test_a_template_that_renders_too_much_is_refused(
    make_tokenizer: MakeTokenizer, role: str
) -> None:
    """Fifty million characters from a short question are an error."""
    template = (
        CHATML + "{% if messages[-1].role == '" + role + "' %}{{ 'x' * 50000000 }}{% endif %}"
    )
    with pytest.raises(ModelError) as caught:
        render(EXAMPLE, shape_of(make_tokenizer(chat_template=template)))
    assert re.fullmatch(
        r"The chat template rendered 50,000,\d{3} characters from a conversation of \d\d\. "
        r"Use --template plain\.",
        str(caught.value),
    )


def test_a_long_conversation_of_short_turns_is_not_too_much(make_tokenizer: MakeTokenizer) -> None:
    """The marks of many turns do not count as excess."""
    pairs = (Turn("user", "a"), Turn("assistant", "b")) * 150
    example = Example("a", "b", 1, "d.jsonl", earlier=pairs)
    tokenizer = make_tokenizer(chat_template=CHATML.replace("<|im_end|>", "-" * 800 + "<|im_end|>"))
    assert len(render(example, shape_of(tokenizer))) == 302
