"""What a run leaves, wherever: the loop writes into a record and does not know whether that is a folder."""

from typing import Any, Protocol

from cells.genotype import Genotype


class Record(Protocol):
    """Rows by epoch, checkpoints, the cell or the weights, the result. A `RunDir` is one, `InMemory` another."""

    def rows(self, name: str) -> list[dict[str, Any]]:
        """Those of "metrics", "alphas" or "cells", one an epoch."""

    def append(self, name: str, row: dict[str, Any]) -> None: ...

    def forget_rows_from(self, epoch: int) -> None:
        """Drops the rows of `epoch` and later, which the run is about to write again."""

    def log(self, message: str) -> None: ...

    def save_checkpoint(self, state: dict[str, Any]) -> None: ...

    def load_checkpoint(self) -> dict[str, Any] | None:
        """The last one, or None if there is none."""

    def write_genotype(self, genotype: Genotype) -> None: ...

    def read_genotype(self) -> Genotype: ...

    def write_weights(self, content: dict[str, Any]) -> None: ...

    def finish(self, result: dict[str, Any]) -> None: ...

    def result(self) -> dict[str, Any]: ...


class InMemory:
    """The record of a run that nothing is kept of: checkpoints and messages are dropped, the rest ends with Python."""

    def __init__(self) -> None:
        self.kept_rows: dict[str, list[dict[str, Any]]] = {}
        self.kept: dict[str, Any] = {}

    def rows(self, name: str) -> list[dict[str, Any]]:
        return self.kept_rows.get(name, [])

    def append(self, name: str, row: dict[str, Any]) -> None:
        self.kept_rows.setdefault(name, []).append(row)

    def forget_rows_from(self, epoch: int) -> None:
        """Nothing is there of an earlier run."""

    def log(self, message: str) -> None:
        """Dropped."""

    def save_checkpoint(self, state: dict[str, Any]) -> None:
        """Dropped."""

    def load_checkpoint(self) -> None:
        """There is none."""

    def write_genotype(self, genotype: Genotype) -> None:
        self.kept["genotype"] = genotype

    def read_genotype(self) -> Genotype:
        return self.kept["genotype"]

    def write_weights(self, content: dict[str, Any]) -> None:
        self.kept["weights"] = content

    def finish(self, result: dict[str, Any]) -> None:
        self.kept["result"] = result

    def result(self) -> dict[str, Any]:
        return self.kept["result"]
