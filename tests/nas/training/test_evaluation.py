"""A trained network is used as it was trained: the same error, its own classes, its own preparation of an image."""

import csv
import json

import numpy as np
import pytest
import torch
from PIL import Image

from nas.commands.evaluate import evaluate_network
from nas.data.datasets import load_data
from nas.run.checkpoint import load_checkpoint, save_checkpoint
from nas.training.evaluation import Evaluation, classify, evaluate, load_trained_network
from nas.training.training import run_training
from search_spaces.operator import OPERATORS
from search_spaces.plugins import PLUGINS, load_plugin
from some_cells import genotype_of
from tiny_runs import TRAIN, begin

CONFIG = TRAIN.model_copy(update={"data": "digits", "batch_size": 32, "train_images": 320})


@pytest.fixture(scope="module")
def digits():
    return load_data("digits", None)


@pytest.fixture(scope="module")
def trained_run(tmp_path_factory, digits):
    """A training on digits that has learned a little."""
    genotype = genotype_of("dil_conv_3x3 0, skip_connect 1")
    run = begin(tmp_path_factory.mktemp("run"), CONFIG, genotype=genotype)
    run_training(CONFIG, genotype, digits, run, progress=False)
    return run


def test_the_error_is_that_of_the_training(trained_run, capsys):
    assert evaluate_network([str(trained_run.path)]) == 0  # the data is that of the training
    printed = capsys.readouterr().out
    result = trained_run.result()
    assert f"test error {result['test_error_percent']:.2f} % on {result['test_images']} images of digits" in printed


def test_the_confusion_matrix_counts_every_image_in_its_row_and_column(trained_run, digits):
    trained = load_trained_network(trained_run.weights)
    found = evaluate(trained, digits)
    predicted = trained.probabilities(digits.test_images).argmax(1)
    assert len(set(predicted.tolist())) > 1  # or rows and columns could be the same
    for true, row in enumerate(found.confusion):
        assert list(row) == torch.bincount(predicted[digits.test_labels == true], minlength=10).tolist()


def test_errors_of_classes_and_of_all_follow_from_the_matrix():
    found = Evaluation("made up", ("a", "b", "c"), ((3, 1, 0), (1, 1, 0), (0, 0, 0)))
    assert found.images == 6 and found.test_error_percent == pytest.approx(100 / 3)
    assert found.class_error_percent == {"a": 25.0, "b": 50.0, "c": None}


def test_an_image_file_gets_the_class_that_its_pixels_get_in_the_data_set(trained_run, digits, tmp_path, capsys):
    trained = load_trained_network(trained_run.path)
    files = [str(tmp_path / f"{number}.png") for number in range(3)]
    for file, pixels in zip(files, digits.test_images[:3], strict=True):
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(file)
    out = tmp_path / "out.json"
    assert evaluate_network([str(trained_run.weights), "--image", *files, "--out", str(out)]) == 0
    printed = capsys.readouterr().out.splitlines()
    for number, (line, kept) in enumerate(zip(printed, json.loads(out.read_text())["images"], strict=False)):
        expected = classify(trained, digits.test_images[number])
        assert line == f"{files[number]}  " + ", ".join(f"{name} {100 * p:.1f} %" for name, p in expected)
        assert [(best["class"], best["probability"]) for best in kept["classes"]] == expected
        probabilities = [p for _, p in expected]
        assert len(expected) == 3 and probabilities == sorted(probabilities, reverse=True) and sum(probabilities) < 1


def test_an_image_of_another_size_and_mode_is_brought_to_the_networks(trained_run, tmp_path, capsys):
    Image.new("L", (50, 30), 200).save(tmp_path / "grey.jpg")
    assert evaluate_network([str(trained_run.weights), "--image", str(tmp_path / "grey.jpg")]) == 0
    assert capsys.readouterr().out.count(" %") == 3


def test_json_and_csv_say_what_is_printed(trained_run, digits, tmp_path, capsys):
    found = evaluate(load_trained_network(trained_run.weights), digits)
    for name in ("kept.json", "kept.csv"):
        assert evaluate_network([str(trained_run.path), "--data", "digits", "--out", str(tmp_path / name)]) == 0
    kept = json.loads((tmp_path / "kept.json").read_text())
    assert kept["test_error_percent"] == found.test_error_percent and kept["class_error_percent"]["3"] is not None
    rows = list(csv.reader((tmp_path / "kept.csv").open()))
    assert rows[0][1:] == list(found.classes) and [row[0] for row in rows[1:]] == list(found.classes)
    assert np.array_equal(np.array(rows)[1:, 1:].astype(int), found.confusion)
    assert np.array_equal(kept["confusion"], found.confusion)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    for name, row in zip(found.classes, found.confusion, strict=True):
        assert [name, *map(str, row)] in lines


def test_a_plugin_beside_the_weights_is_loaded(tmp_path, write_plugin, digits, capsys, monkeypatch, mistake):
    plugin = load_plugin(write_plugin())
    genotype = genotype_of("ghost_3x3 0, skip_connect 1")
    run = begin(tmp_path / "run", CONFIG, genotype=genotype, plugins=[plugin])
    run_training(CONFIG.model_copy(update={"epochs": 1}), genotype, digits, run, progress=False)
    forget_ghost()
    assert evaluate_network([str(run.path)]) == 0
    assert "ghost.py was run" in capsys.readouterr().err
    forget_ghost()
    elsewhere = tmp_path / "weights.pt"
    run.weights.rename(elsewhere)
    assert "ghost_3x3" in mistake(evaluate_network, elsewhere, "--data", "digits")
    assert evaluate_network([str(elsewhere), "--data", "digits", "--plugin", str(plugin.path)]) == 0


def forget_ghost():
    OPERATORS.pop("ghost_3x3")
    PLUGINS.clear()


def test_other_classes_are_refused(trained_run, tmp_path, monkeypatch, mistake):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for folder in ("train/cat", "train/dog", "test/cat", "test/dog"):
        (tmp_path / "photos" / folder).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "photos" / folder / "1.png")
    said = mistake(evaluate_network, trained_run.path, "--data", str(tmp_path / "photos"))
    assert "2 classes, such as cat, dog" in said and "10" in said


def test_images_of_another_size_are_refused_by_the_function(trained_run, refused):
    with refused("8 x 9", "8 x 8"):
        load_trained_network(trained_run.weights).probabilities(torch.zeros(1, 3, 9, 8, dtype=torch.uint8))


def test_what_are_no_weights_gets_one_line(trained_run, tmp_path, mistake):
    content = load_checkpoint(trained_run.weights)
    damaged = {
        "classes": {name: value for name, value in content.items() if name != "classes"},
        "not those of the genotype": content | {"channels": 3},
        "unknown operator": content | {"genotype": content["genotype"].replace("dil_conv_3x3", "dil_conv_9x9")},
        "not a genotype": content | {"genotype": "[]"},
    }
    for words, state in damaged.items():
        save_checkpoint(tmp_path / "weights.pt", state)
        assert words in mistake(evaluate_network, tmp_path / "weights.pt", "--data", "digits")
    (tmp_path / "weights.pt").write_bytes(b"nothing")
    assert "damaged" in mistake(evaluate_network, tmp_path / "weights.pt", "--data", "digits")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["missing.pt", "--data", "digits"], "cannot read checkpoint missing.pt"),
        ([".", "--data", "digits"], "has no weights.pt"),
        (["."], "has no weights.pt"),
        (["search"], "train what it found first: train_genotype.py search"),
        (["{weights}", "--data", "no_such"], "not a folder"),
        (["{weights}", "--image", "no_such.png"], "no_such.png"),
        (["{weights}", "--out", "kept.txt"], ".json or .csv"),
        (["{weights}", "--image", "a.png", "--out", "kept.csv"], "name a .json"),
        (["{weights}", "--device", "gpu"], "unknown device"),
    ],
)
def test_a_mistake_gets_one_line(trained_run, tmp_path, monkeypatch, arguments, words, mistake):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "search").mkdir()
    (tmp_path / "search" / "space.yaml").touch()
    arguments = [argument.format(weights=trained_run.weights) for argument in arguments]
    assert words in mistake(evaluate_network, *arguments)


def test_weights_that_lie_alone_need_to_be_told_the_data(trained_run, tmp_path, mistake):
    alone = tmp_path / "weights.pt"
    alone.write_bytes(trained_run.weights.read_bytes())
    assert "give --data" in mistake(evaluate_network, alone)
    assert evaluate_network([str(alone), "--data", "digits"]) == 0
