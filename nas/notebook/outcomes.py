"""What a search and a training give back to a notebook, and how a notebook shows it."""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, overload

from cells.genotype import Genotype
from cells.pictures.display import genotype_html
from nas.run.folder import RunDir
from nas.statistics import summarize
from nas.training.evaluation import TrainedNetwork


@dataclass(frozen=True, eq=False)
class FoundCell:
    """A search's genotype, its result.json, and the rows of its metrics.jsonl and alphas.jsonl.

    `run` is its folder, None if it was not kept.
    """

    genotype: Genotype
    result: dict[str, Any]
    metrics: list[dict[str, Any]]
    alphas: list[dict[str, Any]]
    run: RunDir | None = None

    def __repr__(self) -> str:
        return f"FoundCell({_found(self.result)})\n{self.genotype}"

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(_found(self.result))}</p>\n{genotype_html(self.genotype)}"


@dataclass(frozen=True, eq=False)
class TrainedCell:
    """A genotype's trained network, its result.json, and the rows of its metrics.jsonl."""

    genotype: Genotype
    result: dict[str, Any]
    metrics: list[dict[str, Any]]
    network: TrainedNetwork
    run: RunDir | None = None

    @property
    def test_error_percent(self) -> float:
        """Of the last epoch."""
        return float(self.result["test_error_percent"])

    def __repr__(self) -> str:
        return f"TrainedCell(test error {self.test_error_percent:.2f} %, {_size(self.result)})"


@dataclass(frozen=True, eq=False)
class TrainedCells(Sequence[TrainedCell]):
    """The trainings of one genotype with several seeds: a sequence, with the spread of their test errors."""

    trainings: tuple[TrainedCell, ...]

    def __len__(self) -> int:
        return len(self.trainings)

    @overload
    def __getitem__(self, index: int) -> TrainedCell: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[TrainedCell]: ...
    def __getitem__(self, index: int | slice) -> TrainedCell | Sequence[TrainedCell]:
        return self.trainings[index]

    @property
    def summary(self) -> dict[str, Any]:
        """`nas.statistics.summarize` of the test errors in percent: n, mean, sd, 95 % intervals of the mean."""
        return summarize([training.test_error_percent for training in self.trainings])

    def __repr__(self) -> str:
        return f"TrainedCells({self._in_words()}, {_size(self.trainings[0].result)})"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{training.result['seed']}</td><td>{training.test_error_percent:.2f}</td></tr>"
            for training in self.trainings
        )
        words = html.escape(f"{self._in_words()}; {_size(self.trainings[0].result)}")
        return f"<table><tr><th>seed</th><th>test error %</th></tr>{rows}</table><p>{words}</p>"

    def _in_words(self) -> str:
        found = self.summary
        words = f"test error {found['mean']:.2f}"
        if found["sd"] is None:
            return f"{words} %, one seed"
        low, high = found["t_interval"]
        return f"{words} ± {found['sd']:.2f} % (mean, sd of {found['n']} seeds; 95 % interval {low:.2f} to {high:.2f})"


def _found(result: dict[str, Any]) -> str:
    return (
        f"{result['space']}, seed {result['seed']}, {result['epochs_run']} epochs on {result['data']}: validation error"
        f" {result['validation_error_percent']:.1f} %"
    )


def _size(result: dict[str, Any]) -> str:
    return f"{result['parameters'] / 1e6:.3f} M parameters, {result['madds'] / 1e6:.1f} M multiply-adds"
