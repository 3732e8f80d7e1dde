"""What a run is about: the space that is searched, the genotype that is trained. A run that goes on keeps its own."""

from dataclasses import replace
from pathlib import Path

from cells.genotype import Genotype, load_genotype
from cells.network import check_operators
from nas.asked_run import AskedRun
from nas.config import SearchConfig, TrainConfig
from search_spaces.errors import InputError
from search_spaces.space import SearchSpace, load_space


def asked_space(asked: AskedRun[SearchConfig]) -> SearchSpace:
    """The space to search; the plug-ins must be loaded.

    Raises InputError if it is not valid, or is given and not that of the run in the folder, whatever its name.
    """
    given, folder = asked.config.space, asked.folder
    if not asked.is_taken_up:
        return load_space(given)
    space = load_space(folder.space)
    if asked.names("space") and replace(load_space(given), name=space.name) != space:
        raise InputError(f"space {given} is not what it was when {folder.path} was begun: {folder.space}")
    return space


def asked_genotype(asked: AskedRun[TrainConfig], given: Genotype | str | Path) -> Genotype:
    """The genotype to train, of a GENOTYPE argument unless it is one; the plug-ins must be loaded.

    Raises InputError if it is not valid, names an operator that is not registered, or is not that of the run in the
    folder.
    """
    genotype, folder = given if isinstance(given, Genotype) else load_genotype(given), asked.folder
    if asked.is_taken_up:
        kept = load_genotype(folder.genotype)
        if genotype != kept:
            name = "that" if isinstance(given, Genotype) else given
            raise InputError(f"{name} is not the genotype {folder.path} was begun with: {folder.genotype}")
        genotype = kept
    check_operators(genotype)
    return genotype
