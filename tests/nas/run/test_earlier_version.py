"""A run that version 0.1 began is resumed, reported and trained from; its folder lies beside this file.

Made by `python search.py --space tiny.yaml --order 1 --data digits --channels 1 --layers 3 --epochs 2 --batch-size 16
--train-images 64 --threads 1 --device cpu --no-report` of that version, stopped after three of its four steps.
"""

import json
import shutil
from pathlib import Path

import pytest

import cli
from cells.genotype_file import load_genotype
from nas.report.page import write_report
from nas.run.folder import RunDir
from nas.run.upgrade import cells_by_epoch
from search_spaces.space import load_space

# What the same command of version 0.1 found when nothing stopped it; losses are compared to float32's digits, as
# another processor rounds otherwise.
SECOND_EPOCH = {"train_loss": 2.3088289499282837, "validation_loss": 2.334142327308655, "train_error_percent": 87.5}
TRAIN = "--data digits --channels 1 --layers 3 --epochs 1 --batch-size 16 --train-images 32 --test-images 10"


@pytest.fixture
def run(tmp_path, monkeypatch) -> RunDir:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(Path(__file__).with_name("search_of_version_0_1"), "run")
    return RunDir("run")


def test_it_is_resumed_to_the_end_that_it_would_have_had(run, without_pictures, capsys):
    assert cli.search(["--run-dir", "run", "--resume"]) == 0
    first, second = run.rows("metrics")
    assert first["validation_loss"] == 2.3283835649490356  # as it was
    for name, value in SECOND_EPOCH.items():
        assert second[name] == pytest.approx(value, rel=1e-5)
    assert [row["epoch"] for row in run.rows("cells")] == [1]  # the first is made of its alphas, whenever it is read
    cells = cells_by_epoch(run, load_space(run.space))
    assert list(cells) == [1, 0] and cells[1] == run.read_genotype()

    assert cli.train(["run", *TRAIN.split(), "--run-dir", "trained", "--threads", "1", "--no-report"]) == 0
    assert load_genotype("trained") == run.read_genotype()


def test_its_report_shows_the_cells_of_its_alphas(run):
    (cell,) = cells_by_epoch(run, load_space(run.space)).values()
    assert cell == run.read_genotype() and run.rows("cells") == []
    write_report(run)
    page = run.report.read_text(encoding="utf-8")
    assert "<svg" in page and "epoch 1" in page
    assert json.loads((run.path / "genotype.json").read_text())["space"] == "tiny"
