"""The device is tested, not assumed; threads match the cores this process may use."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny import Models

from finetuning_exam.errors import UsageError
from finetuning_exam.model import device
from finetuning_exam.model.device import (
    Compute,
    LayerSize,
    bfloat16_speedup,
    choose_compute,
    layer_size,
    usable_cores,
)
from finetuning_exam.settings import Dtype


@pytest.fixture(autouse=True)
def _no_threads_asked_for(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let no variable of this process decide, and restore its threads."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_cpu_computes_in_float32_with_a_thread_for_each_core() -> None:
    """On a CPU the format is float32 and torch uses every core this process may run on."""
    compute = choose_compute("cpu", "auto")
    assert (compute.device.type, compute.dtype_name) == ("cpu", "float32")
    assert compute.threads == torch.get_num_threads() == usable_cores()


@pytest.mark.parametrize(("value", "threads"), [("1", 1), (" 3 ", 3), ("2,4", 2), ("5", 5)])
def test_omp_num_threads_is_honoured(
    monkeypatch: pytest.MonkeyPatch, value: str, threads: int
) -> None:
    """A number in OMP_NUM_THREADS is the number of threads; of a list, the first is."""
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert choose_compute("cpu", "float32").threads == torch.get_num_threads() == threads


@pytest.mark.parametrize("value", ["", "0", "-2", "two", "1.5", "²"])
def test_no_number_in_omp_num_threads_is_ignored(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    """Anything but a positive number leaves a thread for each core."""
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert choose_compute("cpu", "float32").threads == usable_cores()


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="only Linux has affinity")
def test_cores_are_those_of_the_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process pinned to three cores uses three, regardless of the machine."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 4, 5})
    monkeypatch.setattr("builtins.open", _no_file)
    assert usable_cores() == 3


@pytest.mark.parametrize(
    ("quota", "cores"), [("max 100000", 8), ("200000 100000", 2), ("50000 100000", 1)]
)
def test_cores_are_limited_by_the_cgroup(
    monkeypatch: pytest.MonkeyPatch, quota: str, cores: int
) -> None:
    """A container's quota limits the cores; less than one core is one."""
    import io

    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setattr("builtins.open", lambda *args, **named: io.StringIO(quota))
    assert usable_cores() == cores


def test_a_device_that_is_not_there_is_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requesting a device that does not work gives a one-line error with the fix."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError) as caught:
        choose_compute("cuda", "auto")
    assert str(caught.value) == "--device cuda: not available here. Use --device auto."


def test_auto_passes_over_a_device_that_fails_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CUDA device that is reported but cannot multiply is not chosen by auto."""
    real_ones = torch.ones

    def ones(*size: int, device: object = None) -> torch.Tensor:
        if device == "cuda":
            raise RuntimeError("no kernel image is available for execution on the device")
        return real_ones(*size)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch, "ones", ones)
    assert choose_compute("auto", "auto").device.type == "cpu"


def test_auto_passes_over_a_device_that_computes_wrongly(monkeypatch: pytest.MonkeyPatch) -> None:
    """An MPS device that gives a wrong number is not chosen by auto."""
    real_ones = torch.ones
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch, "ones", lambda *size, device: real_ones(*size) * 0.5)
    assert choose_compute("auto", "auto").device.type == "cpu"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_format_asked_for_is_taken(dtype: Dtype) -> None:
    """An explicit format is used as given."""
    compute = choose_compute("cpu", dtype)
    assert compute.dtype == getattr(torch, dtype)
    assert compute.dtype_name == dtype


@pytest.mark.parametrize(("has_bf16", "expected"), [(True, "bfloat16"), (False, "float32")])
def test_auto_takes_bfloat16_on_cuda_that_has_it(
    monkeypatch: pytest.MonkeyPatch, has_bf16: bool, expected: str
) -> None:
    """On CUDA auto is bfloat16 where the device has it, else float32."""
    monkeypatch.setattr(device, "_works", lambda name: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: has_bf16)
    assert choose_compute("auto", "auto").dtype_name == expected
    assert choose_compute("auto", "auto").device.type == "cuda"


LAYER = LayerSize(96, 200)


@pytest.mark.parametrize(
    ("speedup", "layer", "expected"),
    [
        (1.6, LayerSize(512, 96), "bfloat16"),
        (1.5, LayerSize(512, 96), "bfloat16"),
        (1.4, LayerSize(512, 96), "float32"),
        (0.01, LayerSize(512, 96), "float32"),
        (9.0, LayerSize(511, 2048), "float32"),
        (9.0, None, "float32"),
    ],
)
def test_auto_takes_bfloat16_on_a_cpu_only_where_it_is_worth_it(
    monkeypatch: pytest.MonkeyPatch,
    speedup: float,
    layer: LayerSize | None,
    expected: str,
) -> None:
    """Auto picks bfloat16 only if it is 1.5 times as fast on layers of the model's size."""
    monkeypatch.setattr(device, "bfloat16_speedup", lambda layer: speedup)
    assert choose_compute("cpu", "auto", layer).dtype_name == expected
    assert choose_compute("cpu", "float32", layer).dtype_name == "float32"


class Computer:
    """A clock and an MLP that takes `seconds` by the number of its weights and its format."""

    def __init__(self, seconds: Callable[[int, torch.dtype], float]) -> None:
        self.now = 0.0
        self.computed: list[tuple[int, torch.dtype]] = []
        self._seconds = seconds

    def __call__(self) -> float:
        """Seconds since the start."""
        return self.now

    def gated_mlp(self, x: torch.Tensor, *weights: torch.Tensor) -> None:
        """Take the time that an MLP takes."""
        size = sum(weight.numel() for weight in weights)
        self.computed.append((size, x.dtype))
        self.now += self._seconds(size, x.dtype)


def test_the_speedup_is_that_of_the_model_s_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small products only tell whether to go on; the answer is that of the layer's own, however
    much most of them are held up.
    """

    def seconds(size: int, dtype: torch.dtype) -> float:
        is_layer = size == 3 * 96 * 200
        held_up = 0.0 if len(computer.computed) % 16 in (4, 7) else 50.0
        return held_up + {True: 3.0, False: 2.0}[is_layer] / (1 + is_layer * (dtype.itemsize == 2))

    computer = Computer(seconds)
    monkeypatch.setattr(device, "_gated_mlp", computer.gated_mlp)
    assert bfloat16_speedup(LAYER, computer) == 2.0
    assert [dtype for _, dtype in computer.computed[:2]] == [torch.float32, torch.bfloat16]


def test_hopeless_bfloat16_is_seen_by_small_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is tens of times slower, no product of the model's size is tried."""
    computer = Computer(lambda size, dtype: 1.0 if dtype == torch.float32 else 40.0)
    monkeypatch.setattr(device, "_gated_mlp", computer.gated_mlp)
    assert bfloat16_speedup(LAYER, computer) == 1 / 40
    assert {size for size, _ in computer.computed} == {3 * 64 * 64}


def test_the_speedup_is_measured_here() -> None:
    """On this machine too a number comes out, of forward and backward passes that are computed."""
    assert 0.0001 < bfloat16_speedup(LAYER) < 100


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"hidden_size": 8, "intermediate_size": 20}, LayerSize(8, 20)),
        ({"n_embd": 8, "n_inner": None}, LayerSize(8, 32)),
        ({"hidden_size": 8}, LayerSize(8, 32)),
        ({"hidden_size": "8"}, None),
        ({}, None),
    ],
)
def test_the_size_of_a_layer_is_in_the_config(
    tmp_path: Path, config: dict[str, object], expected: LayerSize | None
) -> None:
    """The width of the model and of its MLP are found under either name; without a width, the
    MLP is four times as wide as the model.
    """
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert layer_size(tmp_path) == expected


def test_the_sizes_of_real_configs_are_found(models: Models, tmp_path: Path) -> None:
    """Transformers' own files tell; a folder without one does not."""
    assert layer_size(models.folder("llama")) == LayerSize(32, 64)
    assert layer_size(models.folder("gpt2")) is not None
    assert layer_size(tmp_path) is None


def test_compute_names_its_format() -> None:
    """The name of a format is torch's, without its prefix."""
    assert Compute(torch.device("cpu"), torch.float16, 1).dtype_name == "float16"


def _no_file(*args: object, **named: object) -> None:
    raise FileNotFoundError


def test_a_number_that_is_asked_for_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """`threads` comes before OMP_NUM_THREADS, and can be changed for the whole process later."""
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    compute = choose_compute("cpu", "float32", threads=3)
    assert compute.threads == torch.get_num_threads() == 3
    assert compute.with_threads(1) == replace(compute, threads=1)
    assert torch.get_num_threads() == 1
