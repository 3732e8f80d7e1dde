"""The loop of both commands: what it calls in which order, what it prints, when it saves and when it gives up."""

from types import SimpleNamespace

import pytest
import torch

from nas.formatting import readable_time
from nas.loop import epochs as loop
from nas.loop.epochs import Epochs, run_epochs
from nas.loop.state import RunState
from nas.loop.steps import apply_gradients, batch_sums, cosine, describe_sums
from nas.run.folder import RunDir
from nas.run.stop import Stopped
from tiny_runs import TRAIN, StopAfter, begin

CPU = torch.device("cpu")


class Recorder(Epochs):
    """A run of steps that add (1, 1, 2) to the sums, and a note of all that the loop calls."""

    def __init__(self, run=None):
        self.state, self.run, self.calls = RunState({}, sums=3, device=CPU), run, []

    def go(self, epochs=2, steps=3, seed=0, **options):
        self.config, self.steps = TRAIN.model_copy(update={"epochs": epochs, "seed": seed}), steps
        run_epochs(self, self.run, **options)

    def train_step(self, epoch, step):
        self.calls.append((epoch, step))
        return torch.tensor([1.0, 1.0, 2.0])

    def end_epoch(self, epoch, sums, seconds):
        self.calls.append((epoch, sums))
        return ""

    def find_trouble(self, epoch, step):
        self.calls.append(("trouble", epoch, step))
        return "it is the weather"


def test_epochs_of_steps_in_order_each_with_its_own_sums():
    recorder = Recorder()
    recorder.go(progress=False)
    end = [3.0, 3.0, 6.0]
    assert recorder.calls == [(0, 0), (0, 1), (0, 2), (0, end), (1, 0), (1, 1), (1, 2), (1, end)]


def test_the_random_state_of_a_step_depends_on_the_seed_and_the_step_alone():
    def draws(seed, disturb):
        drawn = []

        def step(epoch, step):
            drawn.append(torch.rand(()).item())
            torch.rand(disturb)
            return torch.ones(3)

        recorder = Recorder()
        recorder.train_step = step
        recorder.go(steps=2, seed=seed, progress=False)
        return drawn

    assert draws(0, 0) == draws(0, 9) and len(set(draws(0, 0))) == 4
    assert draws(0, 0) != draws(1, 0)


@pytest.mark.parametrize("steps", range(1, 7))
def test_a_run_stopped_at_any_step_saves_itself_and_goes_on_from_the_next(steps, tmp_path):
    whole, first = Recorder(), Recorder(begin(tmp_path / "run", TRAIN))
    whole.go(progress=False)
    with pytest.raises(Stopped):
        first.go(stop=StopAfter(steps), progress=False)
    second = Recorder(RunDir(tmp_path / "run"))
    second.state.resume_from(second.run)
    second.go(progress=False)
    assert first.calls + second.calls == whole.calls


def test_an_epoch_is_one_line_with_its_losses_and_the_time_left(capsys, tmp_path):
    recorder = Recorder(begin(tmp_path / "run", TRAIN))
    recorder.go()
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines == ["epoch 1/2  loss 0.500, error 50.0 %  0 s, 0 s left", "epoch 2/2  loss 0.500, error 50.0 %  0 s"]
    assert err == ""  # no bar, as standard error is no terminal here
    assert (recorder.run.path / "log.txt").read_text().splitlines() == lines


def test_a_run_without_progress_prints_nothing(capsys):
    Recorder().go(progress=False)
    assert capsys.readouterr() == ("", "")


def test_on_a_terminal_the_bar_shows_epoch_losses_and_error(monkeypatch):
    import io

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setattr(loop, "SHOWN_SECONDS", 0.0)
    Recorder().go()
    for words in ("epoch 1/2", "epoch 2/2", "loss 0.500, error 50.0 %", "6/6"):
        assert words in terminal.getvalue()


def test_long_epochs_are_saved_within(monkeypatch, tmp_path):
    clock = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(loop, "time", SimpleNamespace(perf_counter=lambda: clock.seconds))
    recorder, saved = Recorder(begin(tmp_path / "run", TRAIN)), []
    monkeypatch.setattr(RunDir, "save_checkpoint", lambda self, state: saved.append((state["epoch"], state["step"])))

    def slow_step(epoch, step):
        clock.seconds += 60 * TRAIN.save_every / 2.5
        return torch.ones(3)

    recorder.train_step = slow_step
    recorder.go(epochs=1, steps=7, progress=False)
    assert saved == [(0, 3), (0, 6), (1, 0)]


def test_the_seconds_of_an_epoch_are_those_of_its_steps_also_over_a_stop(monkeypatch, tmp_path):
    clock, seconds = SimpleNamespace(seconds=0.0), []
    monkeypatch.setattr(loop, "time", SimpleNamespace(perf_counter=lambda: clock.seconds))

    def step(epoch, step):
        clock.seconds += 2
        return torch.ones(3)

    def end_epoch(epoch, sums, measured):
        seconds.append(measured)
        clock.seconds += 100  # what ends an epoch is not training
        return ""

    for stop in (StopAfter(2), None):
        recorder = Recorder(RunDir(tmp_path / "run") if stop is None else begin(tmp_path / "run", TRAIN))
        recorder.train_step, recorder.end_epoch = step, end_epoch
        recorder.state.resume_from(recorder.run)
        try:
            recorder.go(stop=stop, progress=False)
        except Stopped:
            clock.seconds += 1000  # between the two processes
    assert seconds == [6, 6]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("step", [0, 2])
def test_a_loss_that_is_not_finite_ends_the_run_before_it_is_recorded(step, value, tmp_path, refused):
    recorder = Recorder(begin(tmp_path / "run", TRAIN))
    bad = (1, step)
    recorder.train_step = lambda *at: torch.tensor([value if at == bad else 1.0, 1.0, 2.0])
    with refused(f"epoch 2, step {step + 1} of 3, learning rate 0.0125; it is the weather", "--learning-rate"):
        recorder.go(progress=False)
    assert recorder.run.load_checkpoint()["epoch"] == 1
    assert [call[0] for call in recorder.calls] == [0, "trouble"] and recorder.calls[-1] == ("trouble", *bad)


def test_without_waiting_for_the_device_the_bad_step_is_still_known():
    state = RunState({}, 3, CPU)
    for loss in (1.0, 1.0, float("nan"), 1.0, float("inf")):
        state.add(torch.tensor([loss, 1.0, 2.0]))
    assert state.first_bad_step() == 2
    state.next_epoch()
    state.add(torch.ones(3))
    assert state.first_bad_step() is None


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
def test_a_gradient_that_is_not_finite_moves_nothing(optimizer):
    weight = torch.nn.Parameter(torch.ones(2))
    fused = optimizer([weight], lr=1.0, fused=True)
    apply_gradients(fused, [weight], [torch.ones(2)])
    before = weight.detach().clone()
    for bad in (float("nan"), float("inf")):
        norm = apply_gradients(fused, [weight], [torch.tensor([1.0, bad])], 5.0)
        assert not norm.isfinite() and torch.equal(weight.detach(), before)
    apply_gradients(fused, [weight], [torch.ones(2)])
    assert not torch.equal(weight.detach(), before)


def test_a_checkpoint_of_another_network_is_one_line(tmp_path, refused):
    run = begin(tmp_path / "run", TRAIN)
    run.save_checkpoint(RunState({"network": torch.nn.Linear(2, 3)}, 3, CPU).state_dict())
    for part in (torch.nn.Linear(4, 3), torch.optim.SGD(torch.nn.Linear(2, 3).parameters(), 0.1)):
        with refused("does not fit these settings"):
            RunState({"network": part}, 3, CPU).resume_from(run)


def test_the_cosine_schedule_ends_as_the_reference_log_says():
    assert cosine(0.025, 0.001, 0, 50) == 0.025
    assert f"{cosine(0.025, 0.001, 49, 50):e}" == "1.023679e-03"  # the reference's log, epoch index 49
    assert cosine(0.025, 0.0, 600, 600) == 0.0


def test_gradients_are_clipped_to_a_norm_and_forgotten():
    for clip, expected in ((None, [3.0, 4.0]), (1.0, [0.6, 0.8]), (10.0, [3.0, 4.0])):
        weight = torch.nn.Parameter(torch.zeros(2))
        apply_gradients(torch.optim.SGD([weight], lr=1.0), [weight], [torch.tensor([3.0, 4.0])], clip)
        assert torch.allclose(-weight, torch.tensor(expected), rtol=1e-5) and weight.grad is None


def test_a_batch_is_summed_up_as_loss_errors_and_images():
    logits, labels = torch.tensor([[2.0, 1.0], [0.0, 3.0], [1.0, 0.0]]), torch.tensor([0, 1, 1])
    assert batch_sums(torch.tensor(0.5), logits, labels).tolist() == [1.5, 1.0, 3.0]
    assert describe_sums([1.5, 1.0, 3.0]) == "loss 0.500, error 33.3 %"
    both = describe_sums([1.5, 1.0, 3.0, 4.0, 2.0, 2.0])
    assert both == "loss 0.500, error 33.3 %; validation loss 2.000, error 100.0 %"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (42, "42 s"), (180, "3 min"), (5900, "98 min"), (18720, "5.2 h"), (354240, "4.1 days")],
)
def test_times_are_readable(seconds, text):
    assert readable_time(seconds) == text
