"""A run that is killed at any instant, and resumed, ends as the run that was left alone (scripts/kill_test.py)."""

import sys

import pytest

import kill_test


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_killed_and_resumed_runs_end_as_undisturbed_ones(tmp_path):
    result = kill_test.kill_and_compare(tmp_path, kills=26)
    assert result["runs_that_differ"] == [] and result["kills"] == 26
    assert min(result[name] for name in ("at a random time", "while writing", "search", "train")) > 0


def test_a_run_that_ended_otherwise_is_noticed(tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    for run, loss in ((a, 1.0), (b, 1.0 + 2**-52)):
        run.mkdir()
        (run / "metrics.jsonl").write_text(f'{{"epoch": 0, "train_loss": {loss!r}, "seconds": 1}}\n')
    assert kill_test.content(a) == kill_test.content(a) != kill_test.content(b)
