"""What a report says of any run: how far it is, its settings beside the paper's, the machine it was begun on."""

from typing import Any

from nas.config import RUN_CONTROL, Settings
from nas.formatting import readable_time
from nas.run.folder import RunDir, read_json


def describe_state(result: dict[str, Any] | None, done: int, epochs: int) -> str:
    """How far a run is, after `done` of its epochs; `result` is what a finished one has."""
    if result is None:
        return f"unfinished: {done} of {epochs} epochs"
    return f"finished: {done} epochs in {readable_time(result['seconds'])}"


def settings_rows(config: Settings) -> list[dict[str, Any]]:
    """For each setting its name, value and meaning, and the paper's value where the run has another."""
    rows = []
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        differs = value != field.default and name not in (*RUN_CONTROL, "seed", "space")
        row = {"name": name, "value": _shown(value), "meaning": field.description}
        rows.append(row | {"paper": _shown(field.default) if differs else ""})
    return rows


def environment_rows(run: RunDir) -> list[tuple[str, str]]:
    """(name, value) of what environment.json holds. Raises InputError if it is damaged."""
    return [(str(name), _shown(value)) for name, value in read_json(run.environment).items()]


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or value == ():
        return "not given"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
