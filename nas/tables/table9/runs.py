"""The runs of a Table 9 as a report shows them: what table9.json holds, and what was finished since it was written.

The table is written when the command ends; its run folders may be ahead of it, or not be there at all.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cells.genotype import Genotype
from cells.genotype_file import load_genotype, parse_genotype
from nas.run.folder import RunDir
from nas.tables.table9.jobs import STAGES
from nas.tables.table9.results import FORMAT
from search_spaces.errors import InputError
from search_spaces.yaml_mapping import read_mapping

LISTS = {"search": "searches", "train": "retrainings", "random": "random"}  # stages and their names in the JSON


@dataclass(frozen=True)
class TableRun:
    """One run: the cell it found or trained, its errors in percent, what its network costs. None: not known."""

    seed: int
    genotype: Genotype | None = None
    test_error_percent: float | None = None
    held_out_error_percent: float | None = None
    parameters: int | None = None
    madds: int | None = None


@dataclass(frozen=True)
class TableSpace:
    """The runs of a space by their stage, how many are finished and begun, and the summary in table9.json."""

    name: str
    operators: tuple[str, ...]
    runs: dict[str, tuple[TableRun, ...]]
    finished: dict[str, int]
    begun: dict[str, int]
    summary: dict[str, Any] = field(default_factory=dict)

    @property
    def selected_seed(self) -> int | None:
        """The seed of the search whose cell is retrained, or None as long as it is not selected."""
        return self.summary.get("selected_seed")

    def values(self, stage: str, figure: str) -> list[float]:
        return [getattr(run, figure) for run in self.runs[stage] if getattr(run, figure) is not None]


def is_table(folder: Path) -> bool:
    """Whether the folder holds a Table 9, or the runs of one."""
    return (folder / "table9.json").is_file() or bool(_space_names(folder))


def read_table(folder: Path) -> tuple[dict[str, Any], dict[str, TableSpace]]:
    """(table9.json, or {} where there is none yet; the spaces by their names).

    Raises InputError if table9.json or a result of a run is damaged.
    """
    path, content = folder / "table9.json", {}
    try:
        if path.is_file():
            content = dict(json.loads(path.read_text(encoding="utf-8")))
            if content["format"] != FORMAT:
                raise ValueError(f"its format is {content['format']!r}, this version reads {FORMAT}")
        names = dict.fromkeys([*content.get("spaces", {}), *_space_names(folder)])
        return content, {name: _read_space(folder, name, content.get("spaces", {}).get(name, {})) for name in names}
    except InputError:
        raise
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise InputError(f"{path} or a result below it is damaged ({reason}); write it anew with its command") from None


def _space_names(folder: Path) -> list[str]:
    """Spaces of which a run was begun below the folder."""
    found = [path.parents[2].name for stage in STAGES for path in folder.glob(f"*/{stage}/seed*/config.yaml")]
    return sorted(dict.fromkeys(found))


def _read_space(folder: Path, name: str, content: dict[str, Any]) -> TableSpace:
    dirs = {stage: _run_dirs(folder / name / stage) for stage in STAGES}
    held_out = {seed: run.result()["test_error_percent"] for seed, run in dirs["select"].items() if run.is_finished()}
    runs = {}
    for stage, key in LISTS.items():
        rows = {row["seed"]: _run_of_row(row) for row in content.get(key, [])}
        rows |= {seed: _run_of_folder(seed, run, held_out) for seed, run in dirs[stage].items() if run.is_finished()}
        runs[stage] = tuple(rows[seed] for seed in sorted(rows))
    finished = {stage: sum(run.is_finished() for run in found.values()) for stage, found in dirs.items()}
    summary = _checked(content.get("summary", {}))
    begun = {stage: len(found) for stage, found in dirs.items()}
    return TableSpace(name, _operators(dirs["search"], summary), runs, finished, begun, summary)


def _run_dirs(folder: Path) -> dict[int, RunDir]:
    numbered = [(path.parent.name.removeprefix("seed"), path.parent) for path in folder.glob("seed*/config.yaml")]
    return {int(number): RunDir(path) for number, path in numbered if number.isdecimal()}


def _run_of_row(row: dict[str, Any]) -> TableRun:
    genotype = parse_genotype(json.dumps(row["genotype"])) if "genotype" in row else None
    figures = ("test_error_percent", "held_out_error_percent", "parameters", "madds")
    return TableRun(int(row["seed"]), genotype, *(_number(row.get(figure)) for figure in figures))


def _run_of_folder(seed: int, run: RunDir, held_out: dict[int, float]) -> TableRun:
    result = run.result()
    costs = result.get("network_36_channels_20_layers", result)  # of a search, or of a training
    return TableRun(
        seed,
        load_genotype(run.genotype),
        _number(result.get("test_error_percent")),
        _number(held_out.get(seed)) if run.is_search() else None,
        _number(costs["parameters"]),
        _number(costs["madds"]),
    )


def _checked(summary: dict[str, Any]) -> dict[str, Any]:
    """The summary of a space. Raises ValueError, TypeError or KeyError if what a report shows of it is damaged."""
    for points in summary.get("error_points_without_operator", {}).values():
        low, high = points["t_interval"] or (0, 0)
        if None in (_number(points["mean"]), _number(low), _number(high)):
            raise ValueError("an operator's points are missing")
    for done in summary.get("budget", {}).values():
        _number(done.get("seconds"))
        list(done.get("seeds", []))
    return summary


def _number(value: Any) -> Any:
    if value is not None and (isinstance(value, bool) or not abs(value) < 1e300):
        raise ValueError(f"{value!r} is not a number")
    return value


def _operators(searches: dict[int, RunDir], summary: dict[str, Any]) -> tuple[str, ...]:
    """The space's operators but for "none". Plug-ins are not run for it."""
    for run in searches.values():
        listed = read_mapping(run.space, "space", "start the run anew").get("operators", [])
        return tuple(str(name) for name in listed if name != "none")
    return tuple(summary.get("operators", {}).get("normal", {}).get("counts", {}))
