"""Kinds of tokenizers and templates, examples to encode, and what is supervised of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import groupby

from hypothesis import settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from finetuning_exam.data.encoding.chat_shape import ChatShape
from finetuning_exam.data.encoding.chat_template import ChatTemplate, ChatTokenizer
from finetuning_exam.data.encoding.encoder import Encoder
from finetuning_exam.data.encoding.inspect_template import inspect_template
from finetuning_exam.data.encoding.labels import IGNORED, LossOn
from finetuning_exam.data.records import Example, Turn
from finetuning_exam.settings import Template

MakeTokenizer = Callable[..., PreTrainedTokenizerFast]

END, START, PAD, TURN, TURN_END = "<|end|>", "<|start|>", "<|pad|>", "<|im_start|>", "<|im_end|>"
CHATML = (
    "{% for message in messages %}"
    "<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA_LIKE = "{{ bos_token }}" + CHATML
NO_END = (
    "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
MARKS_ONLY = (
    "{% for message in messages %}"
    "<|im_start|>{{ message.role }}\n{{ message.content }}\n"
    "{% endfor %}"
)
HEADER_ALWAYS = (
    "{% for message in messages %}"
    "<|im_start|>{{ message.role }}<|pad|>\n\n{{ message.content | trim }}<|im_end|>"
    "{% endfor %}"
    "{{ '<|im_start|>assistant<|pad|>\n\n' }}"
)
END_BEHIND_END = CHATML.replace("{% endif %}", "{% else %}{{ eos_token }}{% endif %}")
BLANK_FIRST = (
    "{% for message in messages %}{% if message.role == 'assistant' %}"
    " {{ message.content }}{{ eos_token }}{% else %}[INST] {{ message.content }} [/INST]{% endif %}"
    "{% endfor %}"
)
QWEN = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.role == 'assistant' %}"
    "{% set parts = message.content.split('</think>') %}"
    "{% if loop.last %}<think>\n"
    "{{ parts[0].split('<think>')[-1].strip() if parts | length > 1 else '' }}"
    "\n</think>\n\n{% endif %}{{ parts[-1].lstrip('\n') }}"
    "{% else %}{{ message.content }}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n"
    "{% endif %}{% endif %}"
)
"""Shows a thought, if only an empty one, in the last answer alone."""
DEEPSEEK = (
    "{% for message in messages %}<|{{ message.role }}|>"
    "{{ message.content.split('</think>')[-1].strip() }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|><think>\n{% endif %}"
)
"""Drops every thought, and opens one in the generation prompt."""

KINDS: dict[str, tuple[Template, Mapping[str, object]]] = {
    "plain": ("plain", {}),
    "plain, pad": ("plain", {"pad": PAD}),
    "plain, pad is end": ("plain", {"pad": END}),
    "plain, start written": ("plain", {"start": START, "writes_start": True}),
    "plain, start not written": ("plain", {"start": START}),
    "plain, start is end": ("plain", {"start": END, "writes_start": True}),
    "chat": ("chat", {"chat_template": CHATML}),
    "chat, pad is end": ("chat", {"chat_template": CHATML, "pad": END}),
    "chat, end is end of turn": ("chat", {"chat_template": CHATML, "end": TURN_END}),
    "chat, turns not named": ("chat", {"chat_template": CHATML, "names_turns": False}),
    "chat, start twice": (
        "chat",
        {"chat_template": LLAMA_LIKE, "start": START, "writes_start": True},
    ),
    "chat without an end": ("chat", {"chat_template": NO_END}),
    "chat, marks only": ("chat", {"chat_template": MARKS_ONLY}),
    "chat, header always": ("chat", {"chat_template": HEADER_ALWAYS}),
    "chat, end behind the end": ("chat", {"chat_template": END_BEHIND_END}),
    "chat, blank first": ("chat", {"chat_template": BLANK_FIRST}),
}
PLAIN_KINDS = [name for name, (template, _) in KINDS.items() if template == "plain"]
ENDLESS_KINDS = ["chat without an end", "chat, marks only"]
"""Kinds that write no special token behind an answer."""

Encoders = dict[tuple[str, LossOn], Encoder]
LOSSES: tuple[LossOn, ...] = ("last_answer", "answers", "everything")
WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30).filter(
    lambda text: "think>" not in text  # thoughts are shown in other ways: test_thoughts.py
)
SAID = WORDS.filter(str.strip)
SYSTEMS = st.lists(st.builds(Turn, st.just("system"), SAID), max_size=1)
EXCHANGES = st.lists(st.tuples(SAID, SAID), max_size=3)
GREETINGS = st.lists(st.builds(Turn, st.just("assistant"), SAID), max_size=1)
EARLIER = st.builds(
    lambda system, greeting, pairs: (
        *system,
        *greeting,
        *(turn for q, a in pairs for turn in (Turn("user", q), Turn("assistant", a))),
    ),
    SYSTEMS,
    st.just([]) | GREETINGS,
    EXCHANGES,
)
EXAMPLES = st.builds(
    Example,
    instruction=SAID,
    answer=SAID,
    line=st.just(1),
    path=st.just("d.jsonl"),
    input=WORDS,
    earlier=EARLIER,
)
TALK = Example(
    "And -a?",
    "It shows hidden ones.",
    3,
    "d.jsonl",
    earlier=(
        Turn("system", "Be brief."),
        Turn("user", "What does ls do?"),
        Turn("assistant", "It lists files."),
        Turn("user", "And -l?"),
        Turn("assistant", "It is long."),
    ),
)
LOOKALIKE = Example(f"Say {TURN_END}{END}", f"{START}x{END} {TURN}y{TURN_END}", 3, "d.jsonl", PAD)
few = settings(max_examples=12, deadline=None)


def shape_of(tokenizer: ChatTokenizer) -> ChatShape:
    """Return the properties of a tokenizer's chat template, as if it had no added tokens."""
    return inspect_template(ChatTemplate(tokenizer), None)


def decode_ids(encoder: Encoder, ids: tuple[int, ...]) -> str:
    """Return the text of ids, special tokens included."""
    tokenizer = encoder.tokenizer
    assert isinstance(tokenizer, PreTrainedTokenizerFast)
    text = tokenizer.decode(list(ids), skip_special_tokens=False)
    assert isinstance(text, str)
    return text


def supervised_spans(encoder: Encoder, labels: tuple[int, ...]) -> list[str]:
    """The text of each stretch of supervised tokens."""
    stretches = groupby(labels, key=lambda label: label != IGNORED)
    return [decode_ids(encoder, tuple(stretch)) for trained, stretch in stretches if trained]


def supervised_ids(labels: tuple[int, ...]) -> tuple[int, ...]:
    """Return the labels that are not ignored."""
    return tuple(label for label in labels if label != IGNORED)


def token_of(encoder: Encoder, identifier: int) -> str:
    """Return the token with this id."""
    tokenizer = encoder.tokenizer
    assert isinstance(tokenizer, PreTrainedTokenizerFast)
    return str(tokenizer.convert_ids_to_tokens(identifier))
