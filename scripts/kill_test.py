"""Kills searches and trainings at random instants, resumes them, and compares their end with that of runs left alone.

    python scripts/kill_test.py --kills 200 [--seed 0] [--keep FOLDER]

Each kill is a SIGKILL: at a random time after the start, or from within, before a rename or in the middle of a write to
the disk. A run is `search.py` or `train_genotype.py` with --resume, small, on scikit-learn's digits, with a checkpoint
after every step. At its end, all tensors of its checkpoint, its metrics but for the seconds, its alphas, genotype,
weights and result must be those of the undisturbed run, bit for bit. The last line is one JSON object; the exit status
is 1 if a run ended otherwise.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

SETTINGS = (
    "--data digits --channels 2 --layers 3 --batch-size 16 --train-images 48 --threads 1 --device cpu --no-compile"
    " --deterministic --save-every 0.00001 --no-report"
)
COMMANDS = {
    "search": f"--space {{space}} --order 2 --epochs 3 {SETTINGS}",
    "train": f"darts_v2 --epochs 3 --test-images 20 {SETTINGS}",
}
SPACE = "operators: [none, skip_connect, dil_conv_3x3]\nnodes: 2\n"
KILLS_OF_A_RUN = 8  # then it is let go on to its end
PRELOADED = [
    "nas.commands.search",
    "nas.commands.train",
    "nas.search.search",
    "nas.training.training",
    "nas.experiment.estimate",
    "nas.data.datasets",
    "sklearn.datasets",
    "torch._dynamo",
]


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200, help="SIGKILLs in all, half of them on searches")
    parser.add_argument("--seed", type=int, default=0, help="of the instants")
    parser.add_argument("--keep", type=Path, help="a folder for the runs, to look at them; else they are removed")
    arguments = parser.parse_args(argv)
    with contextlib.ExitStack() as stack:
        folder = arguments.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        result = kill_and_compare(folder, arguments.kills, arguments.seed)
    print(json.dumps(result))
    return 1 if result["runs_that_differ"] else 0


def kill_and_compare(folder: Path, kills: int, seed: int = 0) -> dict:
    """Kills runs in `folder` so many times in all; what happened, and which runs ended otherwise than undisturbed."""
    chance = random.Random(seed)
    (folder / "tiny.yaml").write_text(SPACE)
    told: Counter[str] = Counter()
    differing = []
    for command, share in (("search", kills - kills // 2), ("train", kills // 2)):
        whole = folder / command / "undisturbed"
        seconds, writes = Started(command, whole).finish()
        expected = content(whole)
        number = 0
        while share > 0:
            run = folder / command / f"run{number}"
            told[f"{command} runs"] += 1
            for _ in range(min(share, KILLS_OF_A_RUN)):
                if chance.random() < 0.5:
                    how, killed = "at a random time", Started(command, run).kill_after(chance.uniform(0, seconds))
                else:
                    how, killed = "while writing", Started(command, run, die_at=chance.randrange(writes)).dies()
                if not killed:
                    break
                share -= 1
                told.update((command, how))
            else:
                Started(command, run).finish()
            found = content(run)
            wrong = [name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)]
            if wrong:
                differing.append(f"{command} run {number}: {', '.join(sorted(wrong))}")
            print(f"{command} run {number}: {'differs' if wrong else 'the same'}", flush=True)
            number += 1
    return {"kills": told["search"] + told["train"], **dict(sorted(told.items())), "runs_that_differ": differing}


class Started:
    """A command that runs in a process of its own; at its write number `die_at`, if given, it kills itself."""

    def __init__(self, command: str, run: Path, die_at: int | None = None):
        context = multiprocessing.get_context("forkserver")  # a start takes milliseconds, as all is imported before
        context.set_forkserver_preload(PRELOADED)
        self.reader, writer = context.Pipe(duplex=False)
        self.process = context.Process(target=carry_out, args=(command, run, die_at, writer))
        self.began = time.perf_counter()
        self.process.start()
        writer.close()

    def finish(self) -> tuple[float, int]:
        """Waits for its end: (seconds, writes). Raises RuntimeError if it failed."""
        if self.dies():
            raise RuntimeError("the command was killed by something else")
        return time.perf_counter() - self.began, self.reader.recv()

    def kill_after(self, seconds: float) -> bool:
        """Kills it then; whether it was still running."""
        self.process.join(seconds)
        self.process.kill()
        return self.dies()

    def dies(self) -> bool:
        """Waits for its end; whether it was killed. Raises RuntimeError if it failed."""
        self.process.join()
        if self.process.exitcode not in (0, -signal.SIGKILL):
            raise RuntimeError(f"the command ended with status {self.process.exitcode}")
        return self.process.exitcode != 0


def carry_out(command: str, run: Path, die_at: int | None, writer):
    """In the process: the command as typed, with its writes counted."""
    from tqdm import tqdm

    from nas.commands.search import search
    from nas.commands.train import train
    from nas.run import files

    writes = 0
    write, replace = files._write, os.replace

    def is_the_end() -> bool:
        nonlocal writes
        writes += 1
        return die_at is not None and writes > die_at

    def write_or_die(path, mode, content):
        if is_the_end():
            write(path, mode, content[: len(content) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        write(path, mode, content)

    def replace_or_die(source, target):
        if is_the_end():
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target)

    files._write, os.replace = write_or_die, replace_or_die
    tqdm.set_lock(threading.RLock())  # one between processes would be left behind
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    arguments = COMMANDS[command].format(space=run.parent.parent / "tiny.yaml").split()
    carry_out_command = {"search": search, "train": train}[command]
    status = carry_out_command([*arguments, "--run-dir", str(run), "--resume"])
    writer.send(writes)
    sys.exit(status)


def content(run: Path) -> dict[str, object]:
    """All that a finished run has computed, file by file, in a form that is equal if it is the same bit for bit."""
    import torch

    from nas.run.checkpoint import load_checkpoint

    def frozen(value):
        if isinstance(value, torch.Tensor):
            bits = value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
            return value.dtype, tuple(value.shape), bits
        if isinstance(value, dict):
            return {key: frozen(part) for key, part in value.items() if key != "seconds"}
        return [frozen(part) for part in value] if isinstance(value, (list, tuple)) else value

    found: dict[str, object] = {}
    for path in sorted(run.iterdir()):
        if path.suffix == ".pt" and "previous" not in path.name:
            found[path.name] = frozen(load_checkpoint(path))
        elif path.suffix == ".jsonl":
            found[path.name] = [frozen(json.loads(line)) for line in path.read_text().splitlines()]
        elif path.suffix == ".json":
            found[path.name] = frozen(json.loads(path.read_text()))
        elif path.suffix == ".yaml":
            found[path.name] = path.read_text()
    return found


if __name__ == "__main__":
    sys.exit(main())
