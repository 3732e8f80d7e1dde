"""What a call of `search_cell` or `train_cell` asks for: as a command line does, with or without a run folder."""

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nas.asked_run import AskedRun, Config
from nas.config import build_config, config_to_yaml
from nas.data import ImageData
from nas.interrupt import StopRequest
from nas.run_dir import RunDir
from search_spaces.errors import InputError
from search_spaces.registry import check_operator, get_operator, load_plugin, plugins_of

_NO_FOLDER = Path(os.devnull, "no run folder")  # there cannot be one, so nothing is in its way
_Body = Callable[[RunDir, bool, StopRequest | None], None]  # (folder, whether to go on from its checkpoint, stop)


class AskedCall(AskedRun[Config]):
    """What a call asks for; without a folder, the run has one that is gone after it."""

    def __init__(
        self,
        kind: type[Config],
        command: str,
        settings: dict[str, Any],
        preset: str | None,
        run_dir: str | Path | None,
        resume: bool,
        force: bool,
        progress: bool,
    ):
        self.keeps, self.progress = run_dir is not None, progress
        if not self.keeps and (resume or force):
            raise InputError(f"{'resume' if resume else 'force'} is about a run folder; give one as run_dir")
        if resume and force:
            raise InputError("resume goes on with the run in a folder, and force overwrites it; give one of them")
        build_config(kind, [("the call", settings)])  # the settings alone: all keys are known, all values allowed
        if not self.keeps and settings.get("stop_after") is not None:
            raise InputError("stop_after saves the run to go on with it later; give a folder for that as run_dir")
        folder = _NO_FOLDER if run_dir is None else Path(run_dir)
        flags = settings | {"preset": preset, "run_dir": folder, "resume": resume, "force": force}
        super().__init__(kind, command, flags, lambda _: folder)

    def say(self, line: str) -> None:
        if self.progress:
            super().say(line)

    def load_plugins(self, *more: Path) -> None:
        """Runs the plug-ins: of the folder if the run goes on, else the given ones and `more`. Says which were run.

        The file of a typed block that is here is not among those.
        """
        for path in self.folder.plugins if self.is_taken_up else (*more, *map(Path, self.config.plugin)):
            plugin = load_plugin(path)
            if plugin.path == path:
                self.say(f"plug-in {path} was run; it registers {', '.join(plugin.operators)}")

    @contextmanager
    def carried_out(self, data: ImageData, operators: tuple[str, ...], body: _Body, **subject: Any) -> Iterator[RunDir]:
        """The folder in which `body` has run; `subject` is a search's space or a training's genotype."""
        if self.keeps:
            with self.locked():
                goes_on = self.begin(data, operators, **subject)
                self.carry_out(lambda stop: body(self.folder, goes_on, stop))
            yield self.folder
        else:
            with tempfile.TemporaryDirectory() as folder:
                run = RunDir(Path(folder, "run"))
                run.create(config_to_yaml(self.config), data.fingerprint, **subject)
                body(run, False, None)
                yield run


def check_typed(operators: tuple[str, ...], keep: bool) -> None:
    """Raises InputError if a block that was typed, which no file's loading has checked, breaks the contract.

    Or, where the run is kept, if its source cannot be kept with it.
    """
    for name in operators:
        if get_operator(name).typed is not None:
            check_operator(name)
    if keep:
        plugins_of(operators)
