"""Versions and machine, for the record of a run."""

import importlib.metadata
import os
import platform
from typing import Any


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def describe_environment() -> dict[str, Any]:
    """Versions and machine, for the record."""
    import numpy
    import torch
    import torchvision

    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "numpy": numpy.__version__,
        "numba": _version("numba"),
        "platform": platform.platform(),
        "processor": f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}",
        "cpu_count": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "cuda_device": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def changes_since(before: dict[str, Any]) -> str:
    """What changes how numbers round and is not as it was in an earlier `describe_environment`, for people."""
    now = describe_environment()
    names = ("torch", "numpy", "numba", "processor", "threads", "cuda_device")
    changes = [(name, before.get(name), now[name]) for name in names if before.get(name) != now[name]]
    return ", ".join(f"{name} was {was}, is {is_now}" for name, was, is_now in changes)
