"""Randomness without a state: each draw has its own generator, so a run that goes on draws what it would have drawn."""

import zlib
from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True)
class Draw:
    """Which random numbers: those of one step of an epoch of a named stream, under a run's seed.

    Equal draws give equal numbers, others give others.
    """

    seed: int
    stream: str
    epoch: int = 0
    step: int = 0

    def number(self, purpose: str = "") -> int:
        """64 bits to seed a generator with: a hash of the four values, and of a purpose of its own."""
        stream = zlib.crc32((self.stream + purpose).encode())
        sequence = np.random.SeedSequence(self.seed, spawn_key=(stream, self.epoch, self.step))
        return int(sequence.generate_state(1, np.uint64)[0])

    def generator(self, device: torch.device | str, purpose: str = "") -> torch.Generator:
        return torch.Generator(device).manual_seed(self.number(purpose))

    def order(self, count: int, device: torch.device | str) -> torch.Tensor:
        """A permutation of range(count) on `device`; for one order an epoch, the step is 0."""
        return torch.randperm(count, generator=self.generator(device, "/order"), device=device)

    def sample(self, count: int, size: int, device: torch.device | str) -> torch.Tensor:
        """`size` different indices below `count` (all of them, if there are fewer)."""
        return torch.randperm(count, generator=self.generator(device, "/batch"), device=device)[:size]
