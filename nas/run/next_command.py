"""What to type next: the two programs as this one was called, paths as words of a shell."""

import os
import shlex
import sys
from pathlib import Path

from nas.config import SearchConfig, TrainConfig, build_config, read_preset
from nas.machine import processes

PROGRAMS = {"search": ("search.py", "darts-search"), "train": ("train_genotype.py", "darts-train")}


def program_name(command: str) -> str:
    """How to call "search" or "train": as a file if this program was called so, else by its entry point."""
    file, entry_point = PROGRAMS[command]
    called = Path(sys.argv[0])
    is_file = called.name in (name for name, _ in PROGRAMS.values())
    return f"python {quoted(called.with_name(file))}" if is_file else entry_point


def quoted(path: Path | str) -> str:
    """The path as one word of a shell command."""
    return shlex.quote(str(path))


def resuming_command(command: str, folder: Path) -> str:
    """What to type to go on with a run that was stopped, in as many processes."""
    start = program_name(command)
    if processes.size() > 1:
        start = f"torchrun --nproc-per-node {os.environ['LOCAL_WORLD_SIZE']} {start.removeprefix('python ')}"
    return f"{start} --run-dir {quoted(folder)} --resume"


def training_command(config: SearchConfig, folder: Path, preset: str | None) -> str:
    """What to type to train the cell that a search in `folder` found, on the same data."""
    usual = build_config(TrainConfig, [(preset, read_preset(preset, "train"))] if preset else [])
    words = [program_name("train"), quoted(folder)]
    if preset:
        words += ["--preset", preset]
    for name in ("data", "image_size"):
        value = getattr(config, name)
        if value not in (getattr(usual, name), None):
            words += [f"--{name.replace('_', '-')}", quoted(str(value))]
    if config.flip not in (usual.flip, None):
        words.append("--flip" if config.flip else "--no-flip")
    return " ".join(words)
