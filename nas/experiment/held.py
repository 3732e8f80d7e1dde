"""The run that a folder already holds: whether it may go on with what is asked for, or be overwritten."""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Generic

from nas.config import RUN_CONTROL, build_config, read_settings
from nas.experiment.request import Config, Request
from nas.run.begin import refuse_to_overwrite
from nas.run.folder import RunDir
from nas.run.lock import refuse_if_in_use
from nas.run.next_command import PROGRAMS
from search_spaces.errors import InputError


@dataclass(frozen=True)
class Held(Generic[Config]):
    """The settings that a run gets, and whether the one in its folder goes on with them or has done all of them."""

    config: Config
    goes_on: bool = False
    is_done: bool = False


def look_at_folder(request: Request[Config]) -> Held[Config]:
    """Raises InputError if the run in the folder may not go on as it is asked for, or a new one not begin."""
    config = request.config
    if request.folder is None:
        return Held(config)
    run = RunDir(request.folder)
    if not request.dry_run:
        refuse_if_in_use(run)
    if request.resume and run.exists():
        return _take_up(request, run)
    if request.resume:
        request.say(f"nothing to resume in {run.path}; starting from the beginning")
    elif not request.force and not request.dry_run:
        refuse_to_overwrite(run)
    return Held(config)


def refuse_what_came_between(request: Request, run: RunDir, goes_on: bool) -> None:
    """Raises InputError if another process began a run in the folder while this one planned its own."""
    if request.resume and run.exists() and not goes_on:
        raise InputError(f"another process has begun a run in {run.path}; the same command goes on with it")
    if not request.resume and not request.force:
        refuse_to_overwrite(run)


def _take_up(request: Request[Config], run: RunDir) -> Held[Config]:
    """Goes on with the settings of the run in the folder. Raises InputError if others are given.

    More epochs are allowed, and whatever does not change what is computed.
    """
    path, kind = run.path, request.kind
    held = "search" if run.is_search() else "train"
    if held != kind.command:
        raise InputError(f"{path} holds a run of {PROGRAMS[held][0]}, not of {PROGRAMS[kind.command][0]}")
    stored = build_config(kind, [(str(run.config), read_settings(run.config, held))])
    kept = (str(run.config), stored.model_dump(exclude={"plugin", "stop_after"}))
    config = build_config(kind, [kept, *request.layers])
    old, new = stored.model_dump(), config.model_dump()

    differing = [name for name in old if name not in RUN_CONTROL and old[name] != new[name]]
    if new["epochs"] > old["epochs"]:
        differing.remove("epochs")
    if differing:
        said = ", ".join(f"{name} was {old[name]!r} and is now {new[name]!r}" for name in differing)
        raise InputError(f"{path} was begun with other settings: {said}; leave them as they were")
    copies = {sha256(copy.read_bytes()).hexdigest() for copy in run.plugins}
    for plugin in config.plugin:
        if not Path(plugin).is_file() or sha256(Path(plugin).read_bytes()).hexdigest() not in copies:
            raise InputError(f"plug-in {plugin} is not that of {path}; leave --plugin out to use its own copy")
    return Held(config, goes_on=True, is_done=run.is_finished() and new["epochs"] == old["epochs"])
