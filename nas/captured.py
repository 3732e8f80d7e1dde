"""A training step as one CUDA graph: the GPU gets the thousands of kernels of a step in one launch.

A graph replays the same kernels on the same memory. So all that changes from step to step, the learning rate too, goes
in as tensors, which are copied into the graph's own; parameters, buffers and optimizer state are changed in place.
"""

from collections.abc import Callable

import torch

from nas.config import Settings

WARM_UP = 3  # steps before the capture: optimizers make their state, cuDNN chooses its algorithms

Step = Callable[..., torch.Tensor]


class CapturedStep:
    """`step(*tensors) -> tensor`, called as it is until it has warmed up, and from then on replayed as a graph.

    A batch of other shapes than the first, such as the last of an epoch, is run as it is. If the step cannot be
    captured, because an operator asks the GPU for a value, `say` gets one line and every step is run as it is.
    """

    def __init__(self, step: Step, say: Callable[[str], None] = print):
        self.step, self.say = step, say
        self.calls, self.shapes = 0, None
        self.inputs: list[torch.Tensor] = []
        self.replay: Callable[[], torch.Tensor] | None = None

    def __call__(self, *inputs: torch.Tensor) -> torch.Tensor:
        shapes = [tensor.shape for tensor in inputs]
        self.shapes = self.shapes or shapes
        if shapes != self.shapes or self.calls < WARM_UP:
            self.calls += shapes == self.shapes
            return self.step(*inputs)
        if not self.inputs:
            self.inputs = [tensor.clone() for tensor in inputs]  # clone keeps channels_last
            try:
                self.replay = capture(self.step, self.inputs)
            except RuntimeError as error:
                reason = str(error).strip().partition("\n")[0]
                self.say(f"the step cannot be one CUDA graph ({reason}); its kernels are launched one by one, slower")
        if self.replay is None:
            return self.step(*inputs)
        for own, tensor in zip(self.inputs, inputs, strict=True):
            own.copy_(tensor)
        return self.replay()


def as_graph(step: Step, config: Settings, device: torch.device) -> Step:
    """`step` as a `CapturedStep` on a CUDA device, unless the settings say otherwise; elsewhere the step itself.

    Recomputing asks for the random state in the middle of a step, which no graph can hold.
    """
    recomputes = getattr(config, "memory", None) == "recompute"
    return CapturedStep(step) if device.type == "cuda" and config.compile is not False and not recomputes else step


def capture(step: Step, inputs: list[torch.Tensor]) -> Callable[[], torch.Tensor]:
    """Records `step(*inputs)` without running it; the function returned runs it, and gives the same tensor each time.

    Raises RuntimeError if the step waits for the GPU.
    """
    torch.cuda.synchronize()
    torch.cuda.empty_cache()  # the graph has its own memory
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = step(*inputs)

    def replay() -> torch.Tensor:
        graph.replay()
        return output

    return replay
