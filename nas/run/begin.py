"""How a run begins in a folder, and how it goes on there: what may be overwritten, what has to be as it was."""

from collections.abc import Sequence

from cells.genotype import Genotype
from nas.run.environment import changes_since, describe_environment
from nas.run.files import write_atomically
from nas.run.folder import FILES, FOLDERS, RunDir, as_json, read_json
from search_spaces.errors import InputError
from search_spaces.plugins import Plugin
from search_spaces.space import SearchSpace


def refuse_to_overwrite(run: RunDir) -> None:
    """Raises InputError if the folder holds a run, or anything else, that a new run would overwrite."""
    if run.is_finished():
        raise InputError(
            f"{run.path} holds a finished run; choose another --run-dir or --seed, or overwrite it with --force"
        )
    if run.exists():
        raise InputError(f"{run.path} holds an unfinished run; go on with --resume, or start anew with --force")
    refuse_foreign_files(run)


def refuse_foreign_files(run: RunDir) -> None:
    """Allows a run folder, what a run that could not begin has left, and a new or an empty folder."""
    if run.exists():
        return
    path = run.path
    if path.exists() and not path.is_dir():
        raise InputError(f"{path} is a file; give a folder with --run-dir")
    names = {entry.name for entry in path.iterdir() if entry.name[0] != "."} if path.is_dir() else set()
    if names and not (run.environment.name in names <= {*FILES, *FOLDERS}):
        raise InputError(f"{path} is not empty and not a run folder; give a new or an empty folder")


def create_run(
    run: RunDir,
    config: str,
    data_fingerprint: str,
    plugins: Sequence[Plugin] = (),
    space: SearchSpace | None = None,
    genotype: Genotype | None = None,
) -> None:
    """Begins a run: removes what an earlier run left, then writes the settings and copies the plug-ins."""
    refuse_foreign_files(run)
    _clear(run)
    environment = describe_environment() | {"data_fingerprint": data_fingerprint}
    write_atomically(run.environment, as_json(environment))  # first: the folder is a run's
    copies = tuple(f"plugins/{name}" for name in _file_names(plugins))
    for plugin, copy in zip(plugins, copies, strict=True):
        write_atomically(run.path / copy, plugin.source)
    if space is not None:
        write_atomically(run.space, space.to_yaml(copies))
    if genotype is not None:
        run.write_genotype(genotype)
    write_atomically(run.config, config)  # last: from here on the run exists


def extend_run(run: RunDir, config: str) -> None:
    """Makes the run go on with these settings; a finished one is unfinished again."""
    for name in ("result.json", "removal.json"):
        (run.path / name).unlink(missing_ok=True)
    _remove_partial_files(run)
    write_atomically(run.config, config)


def check_data(run: RunDir, fingerprint: str) -> None:
    """Raises InputError if the run was begun with other images."""
    if read_json(run.environment).get("data_fingerprint") != fingerprint:
        raise InputError(
            f"{run.path} was begun with other images than the data has now; give those, or start anew with --force"
        )


def changed_environment(run: RunDir) -> str:
    """What of this machine changes how numbers round and is not as it was when the run was begun, for people."""
    return changes_since(read_json(run.environment))


def _clear(run: RunDir) -> None:
    (run.path / "result.json").unlink(missing_ok=True)  # first: from here on the run is unfinished
    for name in FILES:
        if name != run.environment.name:  # replaced at once: the folder stays a run's if the next line fails
            (run.path / name).unlink(missing_ok=True)
    for folder in FOLDERS:
        for file in (run.path / folder).glob("*"):
            if file.is_file():
                file.unlink()
    _remove_partial_files(run)


def _remove_partial_files(run: RunDir) -> None:
    """What a process that was killed while it wrote has left."""
    for file in run.path.glob(".*.tmp"):
        file.unlink()


def _file_names(plugins: Sequence[Plugin]) -> list[str]:
    """Names for copies of the plug-ins, told apart by their content where two files are named alike."""
    names = [plugin.path.name for plugin in plugins]
    return [
        name if names.count(name) == 1 else f"{plugin.path.stem}_{plugin.sha256[:8]}.py"
        for name, plugin in zip(names, plugins, strict=True)
    ]
