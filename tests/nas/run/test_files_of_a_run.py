"""docs/files-of-a-run.md names every key of the files that grow with a run, and no other."""

import re

import pytest

from cells.genotype import CellGenotype, Edge, Genotype
from nas.run.folder import RunDir
from nas.search.search import run_search
from nas.training.training import run_training
from project_root import ROOT
from tiny_runs import SEARCH, SPACE, TRAIN, begin, image_data

PAGE = ROOT / "docs" / "files-of-a-run.md"


def documented() -> dict[str, list[str]]:
    """The keys in the first column of each section's table."""
    sections = re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    columns = {text.split("\n")[0]: re.findall(r"^\| (`.+?) \|", text, re.MULTILINE) for text in sections}
    return {section: re.findall(r"`(\w+)`", " ".join(cells)) for section, cells in columns.items()}


@pytest.fixture
def tiny_search(tmp_path, without_pictures) -> RunDir:
    """Two epochs, of which the second looks at the eigenvalue."""
    config = SEARCH.model_copy(update={"order": 1, "hessian_every": 2})
    run = begin(tmp_path / "search", config, space=SPACE)
    run_search(config, SPACE, image_data(), run, progress=False)
    return run


def test_the_keys_of_a_search_are_documented(tiny_search):
    first, second = tiny_search.rows("metrics")
    assert list(second) == documented()["`metrics.jsonl` of a search"]
    assert set(second) - set(first) == {"dominant_eigenvalue"}
    assert list(tiny_search.result()) == documented()["`result.json` of a search"]
    assert all(list(row) == documented()["`alphas.jsonl` of a search"] for row in tiny_search.rows("alphas"))


def test_the_alphas_have_the_rows_and_columns_that_the_page_says(tiny_search):
    edges = [(int(source), int(target)) for source, target in re.findall(r"\((\d), (\d)\)", PAGE.read_text())]
    assert edges == list(SPACE.edges)[: len(edges)] and len(edges) == 5
    for row in tiny_search.rows("alphas"):
        for cell in ("normal", "reduce"):
            assert [len(alphas) for alphas in row[cell]] == [len(SPACE.operators)] * len(SPACE.edges)


def test_the_keys_of_a_training_are_documented(tmp_path):
    cell = CellGenotype(((Edge("skip_connect", 0), Edge("dil_conv_3x3", 1)),), (2,))
    run = begin(tmp_path / "train", TRAIN, genotype=Genotype(cell, cell))
    run_training(TRAIN, Genotype(cell, cell), image_data(), run, progress=False)
    assert all(list(row) == documented()["`metrics.jsonl` of a training"] for row in run.rows("metrics"))
    assert set(run.result()) == set(documented()["`result.json` of a training"])
