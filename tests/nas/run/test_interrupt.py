"""Ending a run: after the current step, saved, with an exit status that says why."""

import os
import signal
import subprocess
import sys
import time

import pytest

from nas.run import stop as interrupt
from nas.run.stop import Stopped, StopRequest
from project_root import ROOT

SIGNALS = [signal.SIGINT, signal.SIGTERM] + ([signal.SIGUSR1] if hasattr(signal, "SIGUSR1") else [])


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_lets_the_step_end_then_saves_and_stops(number):
    before = {name: signal.getsignal(name) for name in SIGNALS}
    saved = []
    with StopRequest(minutes=1e-9) as stop, pytest.raises(Stopped) as stopped:
        signal.raise_signal(number)
        assert saved == []  # the step goes on
        assert all(signal.getsignal(name) == signal.SIG_DFL for name in SIGNALS)  # the next one ends the process
        stop.check(lambda: saved.append(True))
    assert saved == [True] and stopped.value.status == 128 + number
    assert {name: signal.getsignal(name) for name in SIGNALS} == before


def test_the_time_limit_saves_and_stops_with_status_75(monkeypatch):
    now, saved = [0.0], []
    monkeypatch.setattr(interrupt.time, "monotonic", lambda: now[0])
    with StopRequest(minutes=2) as stop:
        now[0] = 119.9
        stop.check(lambda: saved.append(True))
        assert not saved
        now[0] = 120.0
        with pytest.raises(Stopped) as stopped:
            stop.check(lambda: saved.append(True))
    assert saved == [True] and stopped.value.status == 75


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals between processes are POSIX")
@pytest.mark.parametrize(
    ("program", "number"),
    [("search.py", signal.SIGTERM), ("train_genotype.py", signal.SIGINT)],
    ids=["search", "train"],
)
def test_a_process_that_gets_a_signal_saves_itself_and_says_how_to_go_on(program, number, tmp_path):
    tiny = "--data digits --channels 1 --layers 3 --batch-size 32 --train-images 64 --threads 1 --epochs 100000"
    (tmp_path / "space.yaml").write_text("operators: [none, skip_connect]\nnodes: 1\n")
    subject = ["--space", "space.yaml", "--order", "1"] if program == "search.py" else ["darts_v2"]
    process = subprocess.Popen(
        [sys.executable, ROOT / program, *subject, *tiny.split(), "--run-dir", "run"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        while "epoch 1/" not in (line := process.stdout.readline()):
            assert line, process.stderr.read()
        start = time.monotonic()
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 128 + number and time.monotonic() - start < 30
    assert (tmp_path / "run" / "checkpoint.pt").is_file() and not (tmp_path / "run" / "result.json").exists()
    lines = err.split("\n")
    assert f"saved; go on with: python {ROOT / program} --run-dir run --resume" in lines
    assert "Traceback" not in err
