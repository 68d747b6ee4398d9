"""Fields that would change what is trained: refused where they are not read, never ignored.

A value that says nothing (null, NaN, "", an empty list) or states the default is accepted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

from finetuning_exam.data.findings import Fault
from finetuning_exam.data.kinds import Kind
from finetuning_exam.data.reading.cells import is_nothing
from finetuning_exam.data.reading.json_values import json_type
from finetuning_exam.data.reading.tools import TOOLS, defines_tools
from finetuning_exam.data.reading.weights import SWITCHES, WEIGHTS

_SWITCHES = ("train_on_input", "train_on_inputs", "train_on_prompt", "mask_history")
"""Choices of what is trained, by default false."""
_TOKEN_MASKS = ("loss_mask", "assistant_masks", "completion_mask", "train_detail")
_SYSTEMS = ("system", "system_prompt", "system_message", "system_instruction", "systemInstruction")
_CONTEXT = ("history", "chat_template_kwargs")
MEDIA = ("images", "videos", "audios", "image", "video", "audio", "image_url", "image_path")
_ALL = frozenset((*_SWITCHES, *_TOKEN_MASKS, *_SYSTEMS, *_CONTEXT, *TOOLS, *MEDIA))
IN_PARTS = (*MEDIA, "input_audio", "file", "bytes")
"""Fields beside the text of a part, or of a turn, that hold what is not text."""


def refuse_unread(value: Mapping[str, object], used: frozenset[str]) -> None:
    """Refuse the fields of a record that are not `used` but would change its training.

    Raises:
        Fault: a mask, a system text, a history, tools or media.
    """
    for name in value.keys() & _ALL - used:
        if is_nothing(value[name]):
            continue
        if name in _SWITCHES:
            _refuse_switch(name, value[name])
        elif name in _TOKEN_MASKS:
            _refuse(f"field {name!r} chooses what is trained, which is not supported")
        elif name in _SYSTEMS:
            way = "rename it to 'system'" if "system" in used else "plain text has no system prompt"
            _refuse(f"field {name!r} is not read; {way}")
        elif name in _CONTEXT and isinstance(value[name], list | dict | str):
            _refuse(f"field {name!r} is not read in this format, but belongs to the prompt")
        elif name in TOOLS and defines_tools(value[name]):
            raise Fault(Kind.BAD_TOOLS, f"field {name!r} defines tools, but plain text calls none")
        elif name in MEDIA and not isinstance(value[name], bool | int | float):
            raise Fault(
                Kind.UNSUPPORTED,
                f"field {name!r} is for multimodal training; expected one prompt and one answer, "
                "as text",
            )


def is_default(name: str, value: object) -> bool:
    """Return whether a field that would change training says nothing, or what is done anyway.

    That holds for the switches of every record that `refuse_unread` accepts, and weights are read.
    """
    if name in _SWITCHES or name in WEIGHTS or name in SWITCHES:
        return True
    return name in _ALL and is_nothing(value)


def refuse_media(value: Mapping[str, object], where: str) -> None:
    """Refuse a turn, or a part of its content, that holds something besides text.

    Raises:
        Fault: an image, a sound, a video or a file.
    """
    for name in IN_PARTS:
        if name in value and not is_nothing(value[name]):
            raise Fault(Kind.UNSUPPORTED, f"{where} has {name!r}; only text is supported")


def shown(value: object) -> str:
    """Return a number or a boolean as JSON writes it, else the value's type."""
    if isinstance(value, bool | int | float):
        return str(value).lower()
    return repr(value) if isinstance(value, str) and len(value) <= 20 else json_type(value)


def _refuse_switch(name: str, value: object) -> None:
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    found = words.get(str(value).strip().casefold())
    if found is None and not isinstance(value, str):
        raise Fault(Kind.WRONG_TYPE, f"field {name!r} is {json_type(value)}; expected a boolean")
    if found is not False:
        _refuse(
            f"field {name!r} is {shown(value)}; choosing what is trained by record is not supported"
        )


def _refuse(detail: str) -> NoReturn:
    raise Fault(Kind.CHANGES_TRAINING, detail)
