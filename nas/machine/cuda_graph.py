"""A training step as one CUDA graph: the GPU gets the thousands of kernels of a step in one launch.

A graph replays the same kernels on the same memory. So all that changes from step to step, the learning rate too, goes
in as tensors, which are copied into the graph's own; parameters, buffers and optimizer state are changed in place.
"""

from collections.abc import Callable

import torch

from nas.config import Settings

WARM_UP = 3  # steps before the first capture: optimizers make their state, cuDNN chooses its algorithms

Step = Callable[..., torch.Tensor]


class CapturedStep:
    """`step(*inputs) -> tensor`, called as it is until it has warmed up, and from then on replayed as a graph.

    Inputs are tensors and numbers; the step gets numbers as tensors of no dimension. There is one graph for each shape
    of batch, as the last of an epoch may be smaller; they share their memory. If the step cannot be captured, because
    an operator asks the GPU for a value, `say` gets one line and every step is run as it is.
    """

    def __init__(self, step: Step, device: torch.device, say: Callable[[str], None] = print):
        self.step, self.device, self.say = step, device, say
        self.calls: dict[tuple, int] = {}
        self.graphs: dict[tuple, Graph] = {}
        self.fails = False

    def __call__(self, *inputs: torch.Tensor | float) -> torch.Tensor:
        tensors = [self._as_tensor(value) for value in inputs]
        key = tuple(tensor.shape for tensor in tensors)
        self.calls[key] = self.calls.get(key, 0) + 1
        if key not in self.graphs and not self.fails and self.calls[key] > (1 if self.graphs else WARM_UP):
            try:
                self.graphs[key] = Graph(self.step, tensors, next(iter(self.graphs.values()), None))
            except RuntimeError as error:
                self.fails = True
                reason = str(error).strip().partition("\n")[0]
                self.say(f"the step cannot be one CUDA graph ({reason}); its kernels are launched one by one, slower")
        return self.graphs[key].replay(tensors) if key in self.graphs else self.step(*tensors)

    def _as_tensor(self, value: torch.Tensor | float) -> torch.Tensor:
        if isinstance(value, torch.Tensor):
            return value
        return torch.full((), value, dtype=torch.float32, device=self.device)  # made there: a copy would wait


class Graph:
    """`step(*inputs)`, recorded without being run. Raises RuntimeError if the step waits for the GPU."""

    def __init__(self, step: Step, inputs: list[torch.Tensor], other: "Graph | None" = None):
        device = inputs[0].device
        self.inputs = [tensor.clone() for tensor in inputs]  # clone keeps channels_last
        with torch.cuda.device(device):
            torch.cuda.synchronize()
            torch.cuda.empty_cache()  # graphs have their own memory
            self.graph = torch.cuda.CUDAGraph()
            pool = None if other is None else other.graph.pool()
            with torch.cuda.graph(self.graph, pool=pool, stream=torch.cuda.Stream(device)):
                self.output = step(*self.inputs)

    def replay(self, inputs: list[torch.Tensor]) -> torch.Tensor:
        """Runs the step on these inputs; gives the same tensor each time."""
        for own, tensor in zip(self.inputs, inputs, strict=True):
            own.copy_(tensor)
        self.graph.replay()
        return self.output


def runs_as_graph(config: Settings, device: torch.device) -> bool:
    """Whether the settings let a step be one graph there.

    Recomputing asks for the random state in the middle of a step, which no graph can hold.
    """
    return device.type == "cuda" and config.compile is not False and getattr(config, "memory", None) != "recompute"


def as_graph(step: Step, config: Settings, device: torch.device) -> Step:
    """`step` as a `CapturedStep` where `runs_as_graph`, elsewhere the step itself."""
    return CapturedStep(step, device) if runs_as_graph(config, device) else step
