"""The one place that knows the files of a run folder.

    config.yaml space.yaml environment.json plugins/ log.txt metrics.jsonl alphas.jsonl
    checkpoint.pt checkpoint.previous.pt genotype.json diagrams/{normal,reduce}.{dot,svg,png} tensorboard/
    weights.pt export/{network.pt2,network.onnx,network.py,weights.pt} removal.json report.html result.json

result.json is written last: where it is, the run is finished. While a process writes here, it holds a lock on .lock,
which the system takes from it when it ends, however it ends; .owner.json says who holds it.
"""

import importlib.metadata
import json
import os
import platform
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from nas.checkpoint import append_line, load_checkpoint, save_checkpoint, write_atomically
from search_spaces.errors import InputError

_FILES = (
    "config.yaml",
    "space.yaml",
    "environment.json",
    "log.txt",
    "metrics.jsonl",
    "alphas.jsonl",
    "checkpoint.pt",
    "checkpoint.previous.pt",
    "genotype.json",
    "weights.pt",
    "removal.json",
    "report.html",
    "result.json",
)
_FOLDERS = ("plugins", "diagrams", "tensorboard", "export")


class RunDir:
    """A run's folder. Nothing is written before `create`."""

    def __init__(self, path: str | Path):
        self.path = Path(path)

    @property
    def environment(self) -> Path:
        return self.path / "environment.json"

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def space(self) -> Path:
        return self.path / "space.yaml"

    @property
    def genotype(self) -> Path:
        return self.path / "genotype.json"

    @property
    def diagrams(self) -> Path:
        return self.path / "diagrams"

    @property
    def tensorboard(self) -> Path:
        return self.path / "tensorboard"

    @property
    def checkpoint(self) -> Path:
        return self.path / "checkpoint.pt"

    @property
    def previous_checkpoint(self) -> Path:
        return self.path / "checkpoint.previous.pt"

    @property
    def weights(self) -> Path:
        return self.path / "weights.pt"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

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

    def refuse_to_overwrite(self) -> None:
        """Raises InputError if the folder holds a run, or anything else, that a new run would overwrite."""
        if self.is_finished():
            raise InputError(
                f"{self.path} holds a finished run; choose another --run-dir or --seed, or overwrite it with --force"
            )
        if self.exists():
            raise InputError(f"{self.path} holds an unfinished run; go on with --resume, or start anew with --force")
        self._refuse_foreign_files()

    def _refuse_foreign_files(self) -> None:
        """Allows a run folder, what a run that could not begin has left, and a new or an empty folder."""
        if self.exists():
            return
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"{self.path} is a file; give a folder with --run-dir")
        names = {entry.name for entry in self.path.iterdir() if entry.name[0] != "."} if self.path.is_dir() else set()
        if names and not (self.environment.name in names <= {*_FILES, *_FOLDERS}):
            raise InputError(f"{self.path} is not empty and not a run folder; give a new or an empty folder")

    @contextmanager
    def locked(self, say: Callable[[str], None]) -> Iterator[None]:
        """Inside, no other process may write here.

        Raises InputError if one does; takes over what a process that is no more has left, and says so.
        """
        self._refuse_foreign_files()
        self.path.mkdir(parents=True, exist_ok=True)
        owner = self.path / ".owner.json"
        with self._lock():
            if owner.exists():
                say(f"{self.path} was left by {_read_owner(owner)}, which is no more; taking over")
            write_atomically(owner, _json({"process": os.getpid(), "host": socket.gethostname()}))
            try:
                yield
            finally:
                owner.unlink(missing_ok=True)

    def refuse_if_in_use(self) -> None:
        """Raises InputError if a process writes here."""
        if (self.path / ".owner.json").exists():
            with self._lock():
                pass

    @contextmanager
    def _lock(self) -> Iterator[None]:
        lock = FileLock(self.path / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            owner = _read_owner(self.path / ".owner.json")
            raise InputError(f"{self.path} is in use by {owner}; wait for it, or stop it") from None
        try:
            yield
        finally:
            lock.release()

    def create(
        self, config: str, data_fingerprint: str, plugins: Sequence = (), space: Any = None, genotype: Any = None
    ) -> None:
        """Begins a run here: removes what an earlier run left, then writes the settings and copies the plug-ins."""
        self._refuse_foreign_files()
        self._clear()
        environment = describe_environment() | {"data_fingerprint": data_fingerprint}
        write_atomically(self.environment, _json(environment))  # first: the folder is a run's
        copies = tuple(f"plugins/{name}" for name in _file_names(plugins))
        for plugin, copy in zip(plugins, copies, strict=True):
            write_atomically(self.path / copy, plugin.source)
        if space is not None:
            write_atomically(self.space, space.to_yaml(copies))
        if genotype is not None:
            self.write_genotype(genotype)
        write_atomically(self.config, config)  # last: from here on the run exists

    def extend(self, config: str) -> None:
        """Makes the run go on with these settings; a finished one is unfinished again."""
        for name in ("result.json", "removal.json"):
            (self.path / name).unlink(missing_ok=True)
        self._remove_partial_files()
        write_atomically(self.config, config)

    def check_data(self, fingerprint: str) -> None:
        """Raises InputError if the run was begun with other images."""
        if _read_json(self.environment).get("data_fingerprint") != fingerprint:
            raise InputError(
                f"{self.path} was begun with other images than the data has now; give those, or start anew with --force"
            )

    def changed_environment(self) -> str:
        """What of this machine changes how numbers round and is not as it was when the run was begun, for people."""
        before, now = _read_json(self.environment), describe_environment()
        names = ("torch", "numpy", "numba", "processor", "threads", "cuda_device")
        changes = [(name, before.get(name), now[name]) for name in names if before.get(name) != now[name]]
        return ", ".join(f"{name} was {was}, is {is_now}" for name, was, is_now in changes)

    def _clear(self) -> None:
        (self.path / "result.json").unlink(missing_ok=True)  # first: from here on the run is unfinished
        for name in _FILES:
            if name != self.environment.name:  # replaced at once: the folder stays a run's if the next line fails
                (self.path / name).unlink(missing_ok=True)
        for folder in _FOLDERS:
            for file in (self.path / folder).glob("*"):
                if file.is_file():
                    file.unlink()
        self._remove_partial_files()

    def _remove_partial_files(self) -> None:
        """What a process that was killed while it wrote has left."""
        for file in self.path.glob(".*.tmp"):
            file.unlink()

    def log(self, message: str) -> None:
        """Adds a line to log.txt."""
        append_line(self.path / "log.txt", message)

    def append(self, name: str, row: dict[str, Any]) -> None:
        """Adds a row to metrics.jsonl or alphas.jsonl, on the disk when this returns."""
        append_line(self.path / f"{name}.jsonl", json.dumps(row))

    def rows(self, name: str) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl or alphas.jsonl; a last line that a crash cut short is left out."""
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
        for name in ("metrics", "alphas"):
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

    def write_genotype(self, genotype: Any) -> None:
        write_atomically(self.genotype, genotype.to_json())

    def finish(self, result: dict[str, Any]) -> None:
        """Writes result.json: the run is finished."""
        write_atomically(self.path / "result.json", _json(result))

    def write_removal(self, found: dict[str, Any]) -> None:
        """Keeps what the search's supernet loses without each operator."""
        write_atomically(self.path / "removal.json", _json(found))

    def removal(self) -> dict[str, Any] | None:
        """What `write_removal` wrote, or None."""
        path = self.path / "removal.json"
        return _read_json(path) if path.is_file() else None

    def result(self) -> dict[str, Any]:
        """The content of result.json. Raises InputError if the run is not finished."""
        if not self.is_finished():
            raise InputError(f"{self.path} is not a finished run; finish it with --resume")
        return _read_json(self.path / "result.json")


def finished_searches(root: Path) -> list[RunDir]:
    """The finished searches in any folder below `root`, the newest last."""
    results = [path for path in root.glob("**/result.json") if RunDir(path.parent).is_search()]
    return [RunDir(path.parent) for path in sorted(results, key=lambda path: (path.stat().st_mtime_ns, path))]


def _json(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=1) + "\n"


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise InputError(f"{path} is damaged ({error}); start the run anew with --force") from None


def _read_owner(path: Path) -> str:
    """Who holds a lock, for people."""
    try:
        owner = json.loads(path.read_text(encoding="utf-8"))
        return f"process {owner['process']} on {owner['host']}"
    except (OSError, ValueError, TypeError, KeyError):
        return "another process"


def _file_names(plugins: Sequence) -> list[str]:
    """Names for copies of the plug-ins, told apart by their content where two files are named alike."""
    names = [plugin.path.name for plugin in plugins]
    return [
        name if names.count(name) == 1 else f"{plugin.path.stem}_{plugin.sha256[:8]}.py"
        for name, plugin in zip(names, plugins, strict=True)
    ]


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
