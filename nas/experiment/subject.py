"""What a run is about: the space that is searched, the architecture that is trained."""

from dataclasses import replace
from pathlib import Path

from cells.architecture import CellArchitecture
from cells.genotype import Genotype
from cells.genotype_file import load_genotype
from nas.run.folder import RunDir
from search_spaces.errors import InputError
from search_spaces.space import SearchSpace, load_space


def asked_space(given: str, is_named: bool, held: RunDir | None) -> SearchSpace:
    """The space to search; the plug-ins must be loaded. `held` is the run that goes on.

    Raises InputError if it is not valid, or is named and not that of the run, whatever its name.
    """
    if held is None:
        return load_space(given)
    space = load_space(held.space)
    if is_named and replace(load_space(given), name=space.name) != space:
        raise InputError(f"space {given} is not what it was when {held.path} was begun: {held.space}")
    return space


def asked_architecture(given: Genotype | str | Path | None, held: RunDir | None) -> CellArchitecture:
    """What to train, of a GENOTYPE argument unless it is a genotype; None is that of `held`, the run that goes on.

    Raises InputError if it is not valid, or is not that of the run.
    """
    if held is None:
        return CellArchitecture(given if isinstance(given, Genotype) else load_genotype(str(given)))
    kept = load_genotype(held.genotype)
    if given is not None and (given if isinstance(given, Genotype) else load_genotype(given)) != kept:
        name = "that" if isinstance(given, Genotype) else given
        raise InputError(f"{name} is not the genotype {held.path} was begun with: {held.genotype}")
    return CellArchitecture(kept)
