"""Where a run computes."""

import re

import torch

from search_spaces.errors import InputError


def resolve_device(name: str) -> torch.device:
    """The device of `auto`, `cpu`, `cuda`, `cuda:N` or `mps`; auto takes CUDA, then MPS, then the CPU.

    Raises InputError if this machine does not have it.
    """
    has_cuda, has_mps = torch.cuda.is_available(), torch.backends.mps.is_available()
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
