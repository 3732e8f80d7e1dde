"""Files are whole or not there, also when the disk is full, and a checkpoint cannot run code."""

import os
import pickle
from contextlib import suppress

import pytest
import torch

from nas.run import files
from nas.run.checkpoint import load_checkpoint, save_checkpoint
from nas.run.files import append_line, write_atomically


def full_disk(*_):
    raise OSError(28, "No space left on device")


@pytest.fixture(params=["open", "fsync", "replace"])
def broken_disk(request, monkeypatch):
    """The disk is full, or the folder is not writable, at one of the three steps of writing a file."""
    if request.param == "open":
        monkeypatch.setattr(files, "open", full_disk, raising=False)
    else:
        monkeypatch.setattr(os, request.param, full_disk)


def test_a_file_that_cannot_be_written_stays_as_it_was_and_leaves_nothing_beside_it(tmp_path, broken_disk):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(OSError) as caught:
        write_atomically(path, "new")
    assert caught.value.filename == str(path)  # the error of a full disk names no file by itself
    assert path.read_text() == "old" and [entry.name for entry in tmp_path.iterdir()] == ["file.txt"]


def test_a_file_is_written_into_folders_that_are_made_for_it(tmp_path):
    write_atomically(tmp_path / "a" / "b" / "c.txt", "ünïcode")
    assert (tmp_path / "a" / "b" / "c.txt").read_text(encoding="utf-8") == "ünïcode"


def test_lines_are_appended_and_a_full_disk_names_the_file(tmp_path, monkeypatch):
    path = tmp_path / "log.txt"
    append_line(path, "one")
    append_line(path, "two")
    assert path.read_bytes() == b"one\ntwo\n"
    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError) as caught:
        append_line(path, "three")
    assert caught.value.filename == str(path)


def test_a_checkpoint_comes_back_bit_for_bit(tmp_path):
    state = {"weights": torch.randn(3, 4), "nested": {"step": 3, "name": "x"}, "sums": torch.zeros(2).double()}
    save_checkpoint(tmp_path / "checkpoint.pt", state)
    loaded = load_checkpoint(tmp_path / "checkpoint.pt")
    assert torch.equal(loaded["weights"], state["weights"]) and torch.equal(loaded["sums"], state["sums"])
    assert loaded["nested"] == state["nested"] and loaded["sums"].dtype == torch.float64


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 half a zip file"])
def test_a_damaged_checkpoint_is_one_line(content, tmp_path, refused):
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(content)
    with refused("checkpoint.pt", "damaged", "--force"):
        load_checkpoint(path)


@pytest.mark.parametrize("place", [0, 100, 0.3, 0.7, -60, -80])
def test_one_flipped_bit_is_noticed(place, tmp_path, refused):
    """torch.load itself reads another number and says nothing."""
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, {"weights": torch.randn(1000)})
    content = bytearray(path.read_bytes())
    content[int(place * len(content)) if isinstance(place, float) else place] ^= 1
    path.write_bytes(content)
    with refused("damaged", "--force"):
        load_checkpoint(path)


def test_a_checkpoint_is_still_a_file_that_torch_reads(tmp_path):
    save_checkpoint(tmp_path / "checkpoint.pt", {"weights": torch.arange(3)})
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["weights"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("crash", ["write", "first rename", "second rename", None])
def test_at_any_instant_one_of_two_checkpoints_is_whole(crash, tmp_path, monkeypatch):
    path, kept = tmp_path / "checkpoint.pt", tmp_path / "previous.pt"
    for step in (1, 2):
        save_checkpoint(path, {"step": step}, keep=kept)
    replace, renames = os.replace, []

    def dies(*arguments):
        renames.append(arguments)
        if crash in ("first rename", "second rename") and len(renames) == (1 if crash == "first rename" else 2):
            raise KeyboardInterrupt
        replace(*arguments)

    monkeypatch.setattr(os, "replace", dies)
    if crash == "write":
        monkeypatch.setattr(os, "fsync", full_disk)
    with suppress(KeyboardInterrupt, OSError):
        save_checkpoint(path, {"step": 3}, keep=kept)
    steps = [load_checkpoint(file)["step"] for file in (path, kept) if file.exists()]
    assert steps == {"write": [2, 1], "first rename": [2, 1], "second rename": [2], None: [3, 2]}[crash]


def test_a_damaged_checkpoint_does_not_take_the_place_of_the_one_before(tmp_path):
    path, kept = tmp_path / "checkpoint.pt", tmp_path / "previous.pt"
    for step in (1, 2):
        save_checkpoint(path, {"step": step}, keep=kept)
    path.write_bytes(path.read_bytes()[:-9])
    save_checkpoint(path, {"step": 2}, keep=kept)
    assert [load_checkpoint(file)["step"] for file in (path, kept)] == [2, 1]


class Bomb:
    def __reduce__(self):
        return os.system, ("touch exploded",)


def test_code_in_a_checkpoint_is_not_run(tmp_path, monkeypatch, refused):
    monkeypatch.chdir(tmp_path)
    torch.save({"bomb": Bomb()}, "checkpoint.pt")
    with refused("not a checkpoint"):
        load_checkpoint("checkpoint.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Bomb(), protocol=2))
    with refused("not a checkpoint"):
        load_checkpoint("plain.pt")
    assert not (tmp_path / "exploded").exists()


def test_a_checkpoint_that_is_not_there_is_one_line(tmp_path, refused):
    with refused("cannot read checkpoint", "No such file"):
        load_checkpoint(tmp_path / "missing.pt")
