"""Where a run computes, and how exactly."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from nas.machine import processes
from search_spaces.errors import InputError

DTYPES = {"float32": torch.float32, "tf32": torch.float32, "bfloat16": torch.bfloat16}


def resolve_device(name: str) -> torch.device:
    """The device of `auto`, `cpu`, `cuda`, `cuda:N` or `mps`; auto takes CUDA, then MPS, then the CPU.

    Each of several processes on a machine has a CUDA device of its own. Raises InputError if there is no such device.
    """
    has_cuda, has_mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if processes.size() > 1 and (name == "cuda" or (name == "auto" and has_cuda)):
        name = f"cuda:{processes.local_rank()}"
    elif processes.size() > 1 and name != "cpu":
        if name != "auto":
            raise InputError(f'device "{name}" cannot be that of {processes.size()} processes; give auto, cpu or cuda')
        name = "cpu"
    if name == "auto":
        return torch.device("cuda" if has_cuda else "mps" if has_mps else "cpu")
    named = re.fullmatch(r"(cpu|cuda|mps)(?::([0-9]{1,3}))?", name)
    if not named:
        raise InputError(f'unknown device "{name}"; known: auto, cpu, cuda, cuda:N, mps')
    here = {"cpu": 1, "cuda": torch.cuda.device_count() if has_cuda else 0, "mps": int(has_mps)}
    if int(named[2] or 0) >= here[named[1]]:
        found = ", ".join(f"{count} {kind}" for kind, count in here.items() if count)
        raise InputError(f'device "{name}" is not on this machine, which has {found}; use --device auto')
    return torch.device(name)


def memory_format(device: torch.device) -> torch.memory_format:
    """How images and weights lie there: channels_last on a CPU, as the compiled loops read them; else contiguous.

    On a GPU, PyTorch's kernels for channels_last are not to be relied on: an average pooling with padding has a wrong
    gradient in CUDA's (pytorch/pytorch#188344, seen with PyTorch 2.11) and in Metal's (#175190), without a word.
    """
    return torch.channels_last if device.type == "cpu" else torch.contiguous_format


def check_precision(precision: str, device: torch.device) -> None:
    """Raises InputError if the device has no such arithmetic."""
    if precision == "tf32" and device.type != "cuda":
        raise InputError(
            f"precision tf32 is an arithmetic of NVIDIA's GPUs and the device is {device}; give float32 or bfloat16"
        )


@contextmanager
def arithmetic(precision: str, deterministic: bool, device: torch.device) -> Iterator[None]:
    """Inside, products of float32 are rounded to TF32 only if `precision` says so.

    With `deterministic`, two runs on one machine give the same bits, and operations that cannot raise RuntimeError;
    else cuDNN tries its algorithms and takes the fastest. On a CPU all is deterministic anyway.
    """
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, matmul.allow_tf32, cudnn.benchmark, torch.are_deterministic_algorithms_enabled()
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS starts
    try:
        cudnn.allow_tf32 = matmul.allow_tf32 = precision == "tf32"
        cudnn.benchmark = device.type == "cuda" and not deterministic
        torch.use_deterministic_algorithms(deterministic)
        yield
    finally:
        cudnn.allow_tf32, matmul.allow_tf32, cudnn.benchmark, was_deterministic = before
        torch.use_deterministic_algorithms(was_deterministic)
