"""How fast the search and the retraining are beside DARTS as it is written, on this machine.

    python scripts/benchmark_search.py [--device cpu] [--order 1|2] [--batch-size 64] [--space darts] …

The textbook version (scripts/textbook.py) and this package's take the same bilevel steps in turn, A B A B, in one
process: "ours" as a search runs by default, on a CPU with the loops that Numba compiles and on a CUDA device as one
graph, "plain" with neither (--no-compile), "saving" with each cell recomputed (--memory recompute). Peak memory comes
from fresh processes and stands beside the estimate that a search prints; gradients are compared in the same run. The
last line is one JSON object with the ratios, textbook time over ours.
"""

import argparse
import json
import platform
import re
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F

from cells.architecture import CellArchitecture
from cells.compiled.fused import can_compile
from cells.genotype_file import load_genotype
from cells.supernet import Supernet, build_candidate
from nas.config import SearchConfig, TrainConfig
from nas.data.image_data import DataSummary
from nas.experiment.estimate import estimate_search
from nas.machine.cuda_graph import WARM_UP, as_graph
from nas.machine.device import DTYPES, arithmetic, check_precision, memory_format, resolve_device
from nas.search.architect import Unrolling, first_order_gradients, second_order_gradients
from nas.search.bilevel import SearchState, bilevel_step
from nas.training.training import TrainState, training_step
from search_spaces.registry import get_operator
from search_spaces.space import load_space
from textbook import TextbookSupernet, textbook_alpha_gradients, textbook_step

CLASSES = 10


def main(argv=None) -> int:
    arguments = build_parser().parse_args(argv)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    if arguments.measure_memory == "estimates":
        print(json.dumps(estimated_peaks(arguments)))
        return 0
    if arguments.measure_memory:
        step = make_stepper(arguments.measure_memory, arguments, 2)
        for _ in range(1 + steps_before(resolve_device(arguments.device))):
            step()
        print(peak_bytes(resolve_device(arguments.device)))
        return 0

    device = resolve_device(arguments.device)
    check_precision(arguments.precision, device)
    with arithmetic(arguments.precision, False, device):
        compare(arguments, device, argv)
    return 0


def compare(arguments, device, argv):
    """Prints all ratios, and as the last line one JSON object of them."""
    print(f"{describe_machine(device)}, {arguments.space}, batch {arguments.batch_size}, {arguments.layers} cells,")
    print(f"{arguments.channels} channels, {arguments.image_size}x{arguments.image_size} pixels\n")
    result = {"device": describe_machine(device), "space": arguments.space, "batch_size": arguments.batch_size}
    result["precision"] = arguments.precision
    result["parity_max_error"] = parity_error(arguments.space)
    print(f"largest difference between the two in float64, relative: {result['parity_max_error']:.1e}\n")

    orders = [arguments.order] if arguments.order else [1, 2]
    for order in orders:
        names = ["textbook", "ours", "plain"] + (["saving"] if order == 2 else [])
        medians = time_in_turn({name: make_stepper(name, arguments, order) for name in names}, arguments.rounds, device)
        result[f"speedup_order{order}"] = medians["textbook"] / medians["ours"]
        result[f"seconds_order{order}"] = medians
        if order == 2:
            result["speedup_order2_compiled"] = result["speedup_order2"] if can_compile() else None
            result["speedup_order2_saving"] = medians["textbook"] / medians["saving"]
        result[f"speedup_order{order}_plain"] = medians["textbook"] / medians["plain"]
    peaks = {name: from_fresh_process(name, argv) for name in ("textbook", "ours", "saving")}
    estimates = from_fresh_process("estimates", argv)
    for name, peak in peaks.items():
        told = f"  (a search says {estimates[name] / 1e9:.2f})" if name in estimates else ""
        print(f"peak memory, second order  {name:<10} {peak / 1e9:6.2f} GB{told}")
    print()
    result["peak_memory_bytes"] = peaks
    result["estimated_memory_bytes"] = estimates
    result["peak_memory_ratio"] = peaks["saving"] / peaks["textbook"]

    retraining = {name: make_retrainer(name, arguments) for name in ("plain", "ours")}
    medians = time_in_turn(retraining, arguments.rounds + 2, device)
    result["retrain_speedup"] = medians["plain"] / medians["ours"]
    print_operator_table(arguments, device)
    print(json.dumps(rounded(result)))


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--order", type=int, choices=(1, 2), help="measure one order only")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--space", default="darts")
    parser.add_argument("--channels", type=int, default=16)
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3, help="measured steps of each version")
    parser.add_argument("--precision", choices=tuple(DTYPES), default="float32", help="of all but the textbook version")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--measure-memory", choices=("textbook", "ours", "saving", "estimates"), help=argparse.SUPPRESS)
    return parser


def make_stepper(name: str, arguments, order: int):
    """A function that takes one bilevel step of the named version, on the same images and weights for all."""
    torch.manual_seed(0)
    device = resolve_device(arguments.device)
    space = load_space(arguments.space)
    config = SearchConfig(
        space=arguments.space,
        order=order,
        channels=arguments.channels,
        layers=arguments.layers,
        device=arguments.device,
        memory="recompute" if name == "saving" else "store",
        compile=name != "plain",
        precision=arguments.precision,
    )
    images = torch.randn(2, arguments.batch_size, 3, arguments.image_size, arguments.image_size)
    labels = torch.randint(CLASSES, (2, arguments.batch_size), device=device)
    if name == "textbook":
        model = TextbookSupernet(space, config.channels, config.layers, CLASSES).to(device)
        batches = [(x.to(device), y) for x, y in zip(images, labels, strict=True)]
        weights = torch.optim.SGD(model.weights(), config.learning_rate, 0.9, weight_decay=config.weight_decay)
        alphas = torch.optim.Adam(model.alphas(), config.alpha_learning_rate, (0.5, 0.999), weight_decay=1e-3)
        return lambda: textbook_step(model, weights, alphas, *batches, order, config)
    state = SearchState(config, space, CLASSES, device)
    batches = [
        (x.to(device).contiguous(memory_format=memory_format(device)), y) for x, y in zip(images, labels, strict=True)
    ]

    def step(images, labels, validation_images, validation_labels, learning_rate):
        return bilevel_step(state, (images, labels), (validation_images, validation_labels), config, learning_rate)

    whole_step = as_graph(step, config, device)
    return lambda: whole_step(*batches[0], *batches[1], config.learning_rate)


def make_retrainer(name: str, arguments):
    """A function that takes one retraining step of DARTS_V2 at the paper's width, a fifth of its depth."""
    torch.manual_seed(0)
    device = resolve_device(arguments.device)
    config = TrainConfig(layers=5, device=arguments.device, compile=name != "plain", precision=arguments.precision)
    state = TrainState(config, CellArchitecture(load_genotype("darts_v2")), CLASSES, device)
    images = torch.randn(config.batch_size, 3, arguments.image_size, arguments.image_size, device=device)
    if name == "plain":
        state.network.to(memory_format=torch.contiguous_format)
    else:
        images = images.contiguous(memory_format=memory_format(device))
    labels = torch.randint(CLASSES, (config.batch_size,), device=device)

    def step(images, labels, learning_rate, drop_path_probability):
        return training_step(state, (images, labels), config, learning_rate, drop_path_probability)

    whole_step = as_graph(step, config, device)
    return lambda: whole_step(images, labels, config.learning_rate, 0.1)


def steps_before(device) -> int:
    """Steps that are not measured: the last of them makes the graph."""
    return 1 + WARM_UP if device.type == "cuda" else 1


def time_in_turn(steppers: dict, rounds: int, device) -> dict[str, float]:
    """Median seconds of each stepper, run in turn after they have warmed up; prints them with their spread."""
    seconds, before = {name: [] for name in steppers}, steps_before(device)
    for _ in range(before + rounds):
        for name, step in steppers.items():
            start = time.perf_counter()
            step()
            if device.type == "cuda":
                torch.cuda.synchronize()
            seconds[name].append(time.perf_counter() - start)
    seconds = {name: times[before:] for name, times in seconds.items()}
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    slowest = next(iter(medians))
    for name, times in seconds.items():
        ratio = medians[slowest] / medians[name]
        spread = f"{min(times):.3f} to {max(times):.3f}"
        print(f"{name:<10} {medians[name]:8.3f} s a step ({spread})  {ratio:5.2f} times {slowest}", flush=True)
    print()
    return medians


def from_fresh_process(name: str, argv):
    """Peak memory in bytes of second-order steps of the named version, or the estimates, in a process of their own."""
    command = [sys.executable, __file__, *(sys.argv[1:] if argv is None else argv), "--measure-memory", name]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(printed.splitlines()[-1])


def estimated_peaks(arguments) -> dict[str, float]:
    """What a search of this size says before it starts, of storing ("ours") and of recomputing ("saving")."""
    config = SearchConfig(
        channels=arguments.channels, layers=arguments.layers, batch_size=arguments.batch_size, device=arguments.device
    )
    data = DataSummary(2 * arguments.batch_size, 0, CLASSES, arguments.image_size)
    estimate = estimate_search(config.model_copy(update={"memory": "store"}), load_space(arguments.space), data)
    return {"ours": estimate.memory_bytes, "saving": estimate.saving_bytes}


def peak_bytes(device) -> int:
    """The most memory that this process, or its GPU, has held."""
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved()  # with a graph's own memory
    status = Path("/proc/self/status")
    if status.exists():  # of this program alone; ru_maxrss begins at what the process that started it held
        return 1024 * int(re.search(r"VmHWM:\s+(\d+)", status.read_text())[1])
    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def parity_error(space_name: str) -> float:
    """Largest relative difference of logits and gradients, on a small supernet in float64."""
    torch.manual_seed(0)
    space = load_space(space_name)
    ours = Supernet(space, 4, 4, CLASSES).double()
    textbook = TextbookSupernet(space, 4, 4, CLASSES).double()
    textbook.copy_from(ours)
    batches = [(torch.randn(6, 3, 16, 16).double(), torch.randint(CLASSES, (6,))) for _ in range(2)]
    pairs = []
    for images, labels in batches:
        logits = [model(images) for model in (ours, textbook)]
        gradients = [
            torch.autograd.grad(F.cross_entropy(x, labels), [*model.weights(), *model.alphas()])
            for x, model in zip(logits, (ours, textbook), strict=True)
        ]
        pairs += [tuple(logits), *zip(*gradients, strict=True)]
    pairs += zip(
        first_order_gradients(ours, batches[1]).gradients,
        textbook_alpha_gradients(textbook, *batches, 1, 0.025, 0.9, 3e-4),
        strict=True,
    )
    pairs += zip(
        second_order_gradients(ours, *batches, Unrolling(0.025, 0.9, 3e-4, None)).gradients,
        textbook_alpha_gradients(textbook, *batches, 2, 0.025, 0.9, 3e-4),
        strict=True,
    )
    return max(((a - b).abs().max() / b.abs().max().clamp_min(1e-6)).item() for a, b in pairs)


def print_operator_table(arguments, device):
    """Milliseconds and saved megabytes of one normal edge at the first cells' size, forward and backward."""
    size, channels, batch = arguments.image_size, arguments.channels, arguments.batch_size
    print(f"one edge, {channels} channels, {size}x{size}, batch {batch}, forward and backward:")
    print("  operator                textbook ms    MB     ours ms    MB")
    for name in load_space(arguments.space).operators:
        if name == "none":
            continue
        row = f"  {name:<22}"
        for ours in (False, True):
            operator = get_operator(name)
            module = build_candidate(name, channels, 1) if ours else operator.build(channels, 1, False)
            x = torch.randn(batch, channels, size, size, device=device)
            if ours:
                x = x.contiguous(memory_format=memory_format(device))
            row += " {:10.2f} {:7.1f}".format(*edge_cost(module.to(device), x.requires_grad_(), device))
        print(row, flush=True)
    print()


def edge_cost(module, x, device) -> tuple[float, float]:
    """(milliseconds of forward and backward, megabytes saved between them beyond the input)."""
    saved: dict[int, int] = {}

    def pack(tensor):
        saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    times = []
    for turn in range(6):
        start = time.perf_counter()
        if turn == 0:
            with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
                y = module(x)
        else:
            y = module(x)
        torch.autograd.grad(y, [x, *module.parameters()], torch.ones_like(y))
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    saved.pop(x.untyped_storage().data_ptr(), None)
    return 1e3 * statistics.median(times[1:]), sum(saved.values()) / 1e6


def describe_machine(device) -> str:
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, PyTorch {torch.__version__}"
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads, PyTorch {torch.__version__}"


def rounded(value):
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value


if __name__ == "__main__":
    sys.exit(main())
