"""The command line that stands for a run: in run.json, on the model card, and in hints."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from finetuning_exam.setting_values import flags_of
from finetuning_exam.settings import TrainSettings

RESUME = "resume_from_checkpoint"
OVERWRITE = "overwrite_output_dir"


@dataclass(frozen=True, slots=True)
class Command:
    """A command line as `fte train …`, and what the user types instead of `fte`."""

    line: str
    prefix: str = "fte"

    @property
    def from_the_start(self) -> str:
        """The command that repeats the run from its start, however often it was resumed."""
        flags, arguments = self._parts()
        return shlex.join([*flags, *arguments])

    @property
    def to_resume(self) -> str:
        """The command that resumes the run, ready to be typed."""
        flags, arguments = self._parts()
        words = shlex.join([*flags[1:], f"--{RESUME}", "latest", *arguments])
        return f"{self.prefix} {words}"

    @property
    def as_typed(self) -> str:
        """The command as the user gave it, with all its flags, ready to be typed again."""
        return f"{self.prefix} {self.line.removeprefix('fte ')}"

    def _parts(self) -> tuple[list[str], list[str]]:
        """Return the words without what resumes or overwrites; second, what follows a bare `--`."""
        words = shlex.split(self.line)
        end = words.index("--") if "--" in words else len(words)
        kept: list[str] = []
        dropped = ""
        for word in words[:end]:
            is_value = not word.startswith("-")
            if dropped and is_value and (dropped != OVERWRITE or word.lower() in ("true", "false")):
                dropped = ""
                continue
            name = word.partition("=")[0].replace("-", "_").lstrip("_").removeprefix("no_")
            dropped = name if name in (RESUME, OVERWRITE) and "=" not in word else ""
            if name not in (RESUME, OVERWRITE):
                kept.append(word)
        return kept, words[end:]


def command_of(settings: TrainSettings) -> Command:
    """Return the command line that has the same settings as a run started from Python."""
    words: list[str] = []
    for flag in flags_of(TrainSettings).values():
        value = getattr(settings, flag.name)
        if flag.is_positional or value == flag.default:
            continue
        values = [*map(str, value)] if isinstance(value, tuple) else [str(value)]
        if values and values[0].startswith("-"):
            words.append(f"--{flag.name}={values[0]}")
        else:
            words += [f"--{flag.name}", *(values or ["None"])]
    data = list(settings.data)
    if any(it.startswith("-") for it in data):
        return Command(shlex.join(["fte", "train", *words, "--", *data]))
    return Command(shlex.join(["fte", "train", *data, *words]))
