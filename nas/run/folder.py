"""The one place that knows the files of a run folder.

    config.yaml space.yaml environment.json plugins/ log.txt metrics.jsonl alphas.jsonl cells.jsonl
    checkpoint.pt checkpoint.previous.pt genotype.json diagrams/{normal,reduce}.{dot,svg,png} tensorboard/
    weights.pt export/{network.pt2,network.onnx,network.py,weights.pt} removal.json report.html result.json

result.json is written last: where it is, the run is finished. How a run begins here is in begin.py, who may write here
in lock.py.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cells.genotype import Genotype
from cells.genotype_file import load_genotype
from nas.run.checkpoint import load_checkpoint, save_checkpoint
from nas.run.files import append_line, write_atomically
from search_spaces.errors import InputError

FOLDERS = ("plugins", "diagrams", "tensorboard", "export")
ROWS = ("metrics", "alphas", "cells")  # the files that grow by a line after each epoch
SETTINGS = ("config.yaml", "space.yaml", "environment.json")
STATE = ("checkpoint.pt", "checkpoint.previous.pt", "log.txt", *(f"{name}.jsonl" for name in ROWS))
FILES = (*SETTINGS, *STATE, "genotype.json", "weights.pt", "removal.json", "report.html", "result.json")


class RunDir:
    """A run's folder, and as a `Record` what a run writes into it. Nothing is written before `begin.create_run`."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.environment = self.path / "environment.json"
        self.config = self.path / "config.yaml"
        self.space = self.path / "space.yaml"
        self.genotype = self.path / "genotype.json"
        self.diagrams = self.path / "diagrams"
        self.tensorboard = self.path / "tensorboard"
        self.checkpoint = self.path / "checkpoint.pt"
        self.previous_checkpoint = self.path / "checkpoint.previous.pt"
        self.weights = self.path / "weights.pt"
        self.report = self.path / "report.html"

    @property
    def plugins(self) -> tuple[Path, ...]:
        """The plug-ins that were copied into the folder."""
        return tuple(sorted((self.path / "plugins").glob("*.py")))

    def exists(self) -> bool:
        """Whether a run was begun here."""
        return self.config.is_file() and self.environment.is_file()

    def is_search(self) -> bool:
        """Whether the run is a search, not a training."""
        return self.space.is_file()

    def is_finished(self) -> bool:
        return (self.path / "result.json").is_file()

    def log(self, message: str) -> None:
        """Adds a line to log.txt."""
        append_line(self.path / "log.txt", message)

    def append(self, name: str, row: dict[str, Any]) -> None:
        """Adds a row to a file of `ROWS`, on the disk when this returns."""
        append_line(self.path / f"{name}.jsonl", json.dumps(row))

    def rows(self, name: str) -> list[dict[str, Any]]:
        """The rows of a file of `ROWS`; a last line that a crash cut short is left out."""
        path = self.path / f"{name}.jsonl"
        if not path.is_file():
            return []
        rows = []
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                rows.append(json.loads(line))
            except ValueError:
                break
        return rows

    def forget_rows_from(self, epoch: int) -> None:
        """Drops the rows of `epoch` and later, which the run is about to write again."""
        for name in ROWS:
            path = self.path / f"{name}.jsonl"
            if path.is_file():
                kept = [json.dumps(row) + "\n" for row in self.rows(name) if row["epoch"] < epoch]
                write_atomically(path, "".join(kept))

    def save_checkpoint(self, state: dict[str, Any]) -> None:
        """Saves the run's state; the checkpoint before is kept beside it."""
        save_checkpoint(self.checkpoint, state, keep=self.previous_checkpoint)

    def load_checkpoint(self, say: Callable[[str], None] | None = None) -> dict[str, Any] | None:
        """The last checkpoint that is whole, or None if there is none yet; `say` is told of one that is not.

        Raises InputError if there are only damaged ones.
        """
        damage = None
        for path in (self.checkpoint, self.previous_checkpoint):
            if path.is_file():
                try:
                    state = load_checkpoint(path)
                except InputError as error:
                    damage = damage or error
                else:
                    if damage is not None and say is not None:
                        say(f"{str(damage).partition(';')[0]}; going on from the one before it, {path.name}")
                    return state
        if damage is not None:
            raise damage
        return None

    def write_genotype(self, genotype: Genotype) -> None:
        write_atomically(self.genotype, genotype.to_json())

    def read_genotype(self) -> Genotype:
        return load_genotype(self.genotype)

    def write_weights(self, content: dict[str, Any]) -> None:
        save_checkpoint(self.weights, content)

    def finish(self, result: dict[str, Any]) -> None:
        """Writes result.json: the run is finished."""
        write_atomically(self.path / "result.json", as_json(result))

    def write_removal(self, found: dict[str, Any]) -> None:
        """Keeps what the search's supernet loses without each operator."""
        write_atomically(self.path / "removal.json", as_json(found))

    def removal(self) -> dict[str, Any] | None:
        """What `write_removal` wrote, or None."""
        path = self.path / "removal.json"
        return read_json(path) if path.is_file() else None

    def result(self) -> dict[str, Any]:
        """The content of result.json. Raises InputError if the run is not finished."""
        if not self.is_finished():
            raise InputError(f"{self.path} is not a finished run; finish it with --resume")
        return read_json(self.path / "result.json")


def finished_searches(root: Path) -> list[RunDir]:
    """The finished searches in any folder below `root`, the newest last."""
    results = [path for path in root.glob("**/result.json") if RunDir(path.parent).is_search()]
    return [RunDir(path.parent) for path in sorted(results, key=lambda path: (path.stat().st_mtime_ns, path))]


def as_json(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=1) + "\n"


def read_json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise InputError(f"{path} is damaged ({error}); start the run anew with --force") from None
