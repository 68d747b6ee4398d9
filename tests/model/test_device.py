"""The device is tried, not assumed; threads follow the cores this process may use."""

from __future__ import annotations

import os

import pytest
import torch

from finetuning_exam.errors import UsageError
from finetuning_exam.model import device
from finetuning_exam.model.device import Compute, choose_compute, usable_cores


def test_cpu_computes_in_float32_with_a_thread_for_each_core() -> None:
    """On a CPU the format is float32 and torch uses every core this process may run on."""
    compute = choose_compute("cpu", "auto")
    assert (compute.device.type, compute.dtype_name) == ("cpu", "float32")
    assert compute.threads == torch.get_num_threads() == usable_cores()


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="only Linux has affinity")
def test_cores_are_those_of_the_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process pinned to three cores has three, however many the machine has."""
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
    """Asking for a device that does not work is one line, and names the way out."""
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
def test_the_format_asked_for_is_taken(dtype: device.Dtype) -> None:
    """A format that is named is used as named."""
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


def test_compute_names_its_format() -> None:
    """The name of a format is torch's, without its prefix."""
    assert Compute(torch.device("cpu"), torch.float16, 1).dtype_name == "float16"


def _no_file(*args: object, **named: object) -> None:
    raise FileNotFoundError
