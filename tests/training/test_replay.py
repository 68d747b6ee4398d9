"""Specification of replay: texts on which training holds the tuned model to its base."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from tiny import Models, adapted, rows, write_rows

from finetuning_exam.api.events import RunPrepared
from finetuning_exam.api.train import train
from finetuning_exam.cache import CACHE, cache_folder
from finetuning_exam.data.encoding.encoder import Encoded
from finetuning_exam.data.encoding.labels import IGNORED
from finetuning_exam.errors import DataError, UsageError
from finetuning_exam.model.fast.path import ALL_PIECES, FastPath
from finetuning_exam.model.mode import on_side
from finetuning_exam.model.replay_row import ReplayRow
from finetuning_exam.objectives.replay import TEXT_TOKENS, Replay
from finetuning_exam.run_settings import as_before, settings_by_name
from finetuning_exam.settings import FastPiece, TrainSettings
from finetuning_exam.training.run_folder import REPLAY


def _settings(model: Path, folder: Path, **others: object) -> TrainSettings:
    data = folder / "train.jsonl"
    if not data.exists():
        folder.mkdir(exist_ok=True)
        write_rows(data, rows(40))
    values: dict[str, object] = {
        "data": (str(data),),
        "model_name_or_path": str(model),
        "output_dir": str(folder / "run"),
        "device": "cpu",
        "max_steps": 6,
        "save_steps": 3,
        "lora_r": 4,
        "learning_rate": 1e-2,
        "answered_examples": 2,
        "max_new_tokens": 4,
        "replay": ("auto",),
        "adapter_scale": 1.0,
        "skills": "none",
        "replay_tokens": 128,
        **others,
    }
    return TrainSettings(**values)  # type: ignore[arg-type]


def _weights(folder: Path) -> bytes:
    return (folder / "run" / "adapter_model.safetensors").read_bytes()


def _replay_rows(path: FastPath, texts: list[tuple[int, ...]]) -> list[ReplayRow]:
    encoded = [Encoded(ids, (IGNORED, *ids[1:]), 0, 0) for ids in texts]
    with on_side(path.model, "base"), torch.no_grad():
        hidden = path.hidden_states(encoded)
    return [
        ReplayRow(it.ids, it.labels, 0, 0, base=base)
        for it, base in zip(encoded, hidden, strict=True)
    ]


def _rows(n: int) -> tuple[ReplayRow, ...]:
    return tuple(ReplayRow((i, i), (IGNORED, i), 0, 0, base=torch.zeros(1, 2)) for i in range(n))


@pytest.mark.parametrize("pieces", [ALL_PIECES, ("rows",), ()], ids=["fast", "rows", "stock"])
@pytest.mark.parametrize("architecture", ["llama", "gemma3", "gpt2"])
def test_replay_rows_share_a_pass_with_others(
    architecture: str, pieces: tuple[FastPiece, ...]
) -> None:
    """In one pass with rows to learn, a replay row has the KL of both models' own logits, summed
    over its tokens, and the other rows have their NLL.
    """
    model = adapted(architecture).eval()
    wanted = frozenset(it for it in pieces if architecture != "gpt2" or it in ("rows", "loss"))
    path = FastPath(model, 0, wanted)
    texts = [tuple(range(3, 15)), tuple(range(40, 45))]
    replayed = _replay_rows(path, texts)
    learned = Encoded(tuple(range(20, 29)), (IGNORED,) * 5 + tuple(range(25, 29)), 5, 0)
    losses = path.row_losses([replayed[0], learned, replayed[1]])
    with torch.no_grad():
        for text, found in zip(texts, (losses[0], losses[2]), strict=True):
            ids = torch.tensor([text])
            log_q = torch.log_softmax(model(ids).logits[0, :-1].double(), dim=1)
            with model.disable_adapter():
                log_p = torch.log_softmax(model(ids).logits[0, :-1].double(), dim=1)
            expected = (log_p.exp() * (log_p - log_q)).sum()
            assert float(found) == pytest.approx(float(expected), rel=1e-4)
        assert float(losses[1]) == pytest.approx(float(path.row_nll([learned])), rel=1e-5)
    losses.sum().backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_every_text_is_used_once_before_any_comes_again() -> None:
    """The texts of a step depend on its number alone, so a resumed run takes the same ones."""
    replay = Replay(_rows(5), 1.0, 2 * TEXT_TOKENS, seed=3)
    drawn = [row.ids[0] for step in range(5) for row in replay.of_step(step)]
    assert sorted(drawn[:5]) == sorted(drawn[5:]) == list(range(5))
    assert [row.ids[0] for row in replay.of_step(3)] == drawn[6:8]
    assert Replay().of_step(3) == ()


@pytest.mark.parametrize("tokens", [1, 32, 64, 96, 128, 200, 256, 1000])
def test_steps_have_the_tokens_that_are_wanted_on_average(tokens: int) -> None:
    """Texts are spread evenly over the steps, the first of which has one; with fewer tokens than a
    text has, each text counts for the steps without one.
    """
    replay = Replay(_rows(9), 0.5, tokens, seed=3)
    counts = [len(replay.of_step(step)) for step in range(1280)]
    assert sum(counts) == 10 * tokens
    assert counts[0] == max(counts)
    assert max(counts) - min(counts) <= 1
    assert replay.row_weight * sum(counts) == pytest.approx(0.5 * 1280)


def test_a_run_with_replay_is_repeated_and_resumed_to_the_same_bytes(
    models: Models, tmp_path: Path
) -> None:
    """The base writes the same texts for the same seed; a resumed run reads those of the run."""
    model = models.folder()
    for name in ("one", "two"):
        train(_settings(model, tmp_path / name))
    assert _weights(tmp_path / "one") == _weights(tmp_path / "two")
    written = (tmp_path / "one" / "run" / REPLAY).read_text(encoding="utf-8")
    texts = [json.loads(line)["ids"] for line in written.splitlines()]
    assert len(texts) == 6
    assert all(1 < len(ids) <= 129 for ids in texts)
    run = tmp_path / "two" / "run"
    shutil.rmtree(run / "checkpoint-6")
    (run / "adapter_model.safetensors").unlink()
    train(_settings(model, tmp_path / "two", resume_from_checkpoint="latest"))
    assert _weights(tmp_path / "one") == _weights(tmp_path / "two")


def test_a_run_is_not_resumed_with_other_texts(models: Models, tmp_path: Path) -> None:
    """A replay.jsonl that was changed is noticed: the tokens of the run are not the same."""
    train(_settings(models.folder(), tmp_path))
    run = tmp_path / "run"
    lines = (run / REPLAY).read_text(encoding="utf-8").splitlines()
    (run / REPLAY).write_text("\n".join(lines[:-1]) + "\n", encoding="utf-8")
    shutil.rmtree(run / "checkpoint-6")
    with pytest.raises(UsageError, match="the tokens of the rows"):
        train(_settings(models.folder(), tmp_path, resume_from_checkpoint="latest"))


def test_without_weight_replay_is_none(models: Models, tmp_path: Path) -> None:
    """Weight 0 gives the adapter of a run without replay, to the byte, and writes no texts."""
    train(_settings(models.folder(), tmp_path / "none", replay=("none",)))
    train(_settings(models.folder(), tmp_path / "zero", replay_weight=0.0))
    train(_settings(models.folder(), tmp_path / "some"))
    assert _weights(tmp_path / "none") == _weights(tmp_path / "zero")
    assert _weights(tmp_path / "none") != _weights(tmp_path / "some")
    assert not (tmp_path / "zero" / "run" / REPLAY).exists()


def test_replay_holds_the_model_to_its_base(models: Models, tmp_path: Path) -> None:
    """With much weight on it the general text becomes less unlikely than without it."""
    lost = {}
    for name, weight in (("none", 0.0), ("much", 30.0)):
        settings = _settings(
            models.folder(),
            tmp_path / name,
            replay_weight=weight,
            max_steps=30,
            save_steps=30,
            load_best_model_at_end=False,
        )
        lost[name] = train(settings).exam.forgetting.difference
    assert lost["much"] < lost["none"] / 2


@pytest.mark.parametrize("text", ["plain", "chat"])
def test_the_users_own_texts(models: Models, tmp_path: Path, text: str) -> None:
    """Texts and conversations are read from files, but for those with a question of the exam."""
    settings = _settings(models.folder(text=text), tmp_path)
    exam = rows(44)[40:]
    write_rows(tmp_path / "exam.jsonl", exam)
    own = tmp_path / "own.jsonl"
    records = [
        {"instruction": "Tell me of rivers.", "output": "They run to the sea."},
        {"instruction": exam[0].instruction, "output": "It is known."},
        {
            "instruction": "Then?",
            "output": f"He asked: {exam[1].instruction.upper()} I did not know.",
        },
    ]
    own.write_text("".join(json.dumps(it) + "\n" for it in records), encoding="utf-8")
    settings = _settings(
        models.folder(text=text),
        tmp_path,
        replay=(str(own),),
        eval_file=str(tmp_path / "exam.jsonl"),
    )
    train(settings)
    written = (tmp_path / "run" / REPLAY).read_text(encoding="utf-8")
    assert len(written.splitlines()) == 1
    assert "rivers" in written
    own.write_text(json.dumps(records[1]) + "\n", encoding="utf-8")
    with pytest.raises(
        DataError, match=r"no text can be used: 0 texts .* \(1 with an exam question"
    ):
        train(settings)


def test_a_text_of_one_token_predicts_nothing() -> None:
    """The end of a row keeps the base's side of the tokens that it still predicts."""
    row = ReplayRow((5, 6, 7, 8), (IGNORED, 6, 7, 8), 0, 0, base=torch.arange(6.0).view(3, 2))
    tail = row.last(3)
    assert (tail.ids, tail.base.tolist()) == ((6, 7, 8), [[2.0, 3.0], [4.0, 5.0]])
    assert row.last(9).base.shape == (3, 2)


def test_a_run_from_before_there_was_replay_goes_on_without_it() -> None:
    """A resumed run has what its version did where it lacks a setting, and else what it has."""
    settings = TrainSettings()
    known = set(settings_by_name(settings)) - {"replay", "adapter_scale"}
    assert as_before(settings, known) == TrainSettings(replay=("none",), adapter_scale=1.0)
    assert as_before(settings, {*known, "adapter_scale"}) == TrainSettings(replay=("none",))
    assert as_before(settings, settings_by_name(settings)) == settings


def test_texts_are_written_once_for_all_runs_of_a_base(
    models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second run of the same base has the texts of the first, to the byte; another base, seed or
    number of texts has its own; a damaged cache, or one that cannot be written, is no matter.
    """
    cache = tmp_path / "cache"
    monkeypatch.setenv(CACHE, str(cache))

    def texts(name: str, architecture: str = "llama", **others: object) -> str:
        notes: list[str] = []

        def on_event(event: object) -> None:
            if isinstance(event, RunPrepared):
                notes.append(event.prepared.replay.note)

        train(_settings(models.folder(architecture), tmp_path / name, **others), on_event=on_event)
        written = (tmp_path / name / "run" / REPLAY).read_text(encoding="utf-8")
        return notes[0].removeprefix("6 texts ") + "\n" + written

    first = texts("one")
    assert first.startswith("written by the base\n")
    again = texts("two")
    assert again.startswith("written by the base for an earlier run\n")
    assert again.splitlines()[1:] == first.splitlines()[1:]
    for others in ({"architecture": "gemma3"}, {"seed": 3}, {"replay_tokens": 64}):
        assert "earlier" not in texts(f"other {others}", **others)
    for file in (cache / "replay").iterdir():
        file.write_text("{", encoding="utf-8")
    assert texts("three") == first
    monkeypatch.setenv(CACHE, str(tmp_path / "train.jsonl"))
    (tmp_path / "train.jsonl").touch()
    assert texts("four") == first


def test_the_cache_is_where_the_environment_or_the_platform_says(tmp_path: Path) -> None:
    """FTE_CACHE comes first; an empty one is none."""
    assert cache_folder({CACHE: str(tmp_path)}) == tmp_path
    assert "finetuning-exam" in cache_folder({CACHE: ""}).parts
