"""The discrete network of a genotype, the one that is retrained (DARTS, section 3.1 and the reference code)."""

import torch
from torch import nn

from cells.compiled.fused import accelerate
from cells.execution import USUAL, Execution
from cells.genotype import CellGenotype, Genotype
from cells.stacking import CellInputs, CellSpec, build_stem, edge_stride, stack_cells
from search_spaces.errors import InputError
from search_spaces.layers import conv_norm
from search_spaces.registry import build_operator, get_operator

Logits = tuple[torch.Tensor, torch.Tensor | None]  # of the classifier, and of the auxiliary head in training


def drop_path(x: torch.Tensor, probability: float | torch.Tensor) -> torch.Tensor:
    """`x` (N, C, H, W) with whole images set to zero at that probability, the others scaled to keep the mean.

    Larsson et al., FractalNet, ICLR 2017.
    """
    keep = 1 - probability
    mask = (torch.rand(len(x), 1, 1, 1, device=x.device) < keep).to(x.dtype)
    return x * (mask / keep)


class NetworkCell(nn.Module):
    """One cell of a genotype: (input 0, input 1) -> concatenation of the nodes in its concat."""

    def __init__(self, genotype: CellGenotype, spec: CellSpec):
        super().__init__()
        self.genotype = genotype
        self.inputs = CellInputs(spec, affine=True)
        self.operators = nn.ModuleList(
            build_operator(edge.operator, spec.channels, edge_stride(spec, edge.source), True)
            for _, edge in genotype.edges
        )

    def places(self) -> dict[str, str]:
        """Names of the operators' modules -> the operators, for people, as "sep_conv_3x3 on edge 0 -> 2"."""
        return {
            f"operators.{index}": f"{edge.operator} on edge {edge.source} -> {target}"
            for index, (target, edge) in enumerate(self.genotype.edges)
        }

    def forward(
        self, input0: torch.Tensor, input1: torch.Tensor, drop_path_probability: float | torch.Tensor = 0.0
    ) -> torch.Tensor:
        nodes = list(self.inputs(input0, input1))
        operators = iter(self.operators)
        for edges in self.genotype.nodes:
            terms = []
            for edge, operator in zip(edges, operators, strict=False):
                term = operator(nodes[edge.source])
                if self.training and not isinstance(operator, nn.Identity):  # identity skips are never dropped
                    term = drop_path(term, drop_path_probability)
                terms.append(term)
            nodes.append(sum(terms))
        return torch.cat([nodes[index] for index in self.genotype.concat], dim=1)


class AuxiliaryHead(nn.Module):
    """A second classifier two thirds into the network: (N, C, H, W) -> logits (N, classes).

    Made for the 8x8 maps of 32x32 images; maps of another size are pooled adaptively to the same 2x2.
    """

    def __init__(self, channels: int, classes: int):
        super().__init__()
        self.pool_8x8 = nn.AvgPool2d(5, stride=3, count_include_pad=False)
        self.features = nn.Sequential(
            *conv_norm(channels, 128), nn.ReLU(), nn.Conv2d(128, 768, 2, bias=False), nn.BatchNorm2d(768), nn.ReLU()
        )
        self.classifier = nn.Linear(768, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pool = self.pool_8x8 if tuple(x.shape[-2:]) == (8, 8) else halves_pooled
        return self.classifier(self.features(pool(x.relu())).flatten(1))


def halves_pooled(x: torch.Tensor) -> torch.Tensor:
    """Adaptive average pooling (N, C, H, W) -> (N, C, 2, 2), whose gradient is deterministic on a GPU, too."""
    height, width = x.shape[-2:]
    rows = [x[:, :, : -(-height // 2)].mean(2), x[:, :, height // 2 :].mean(2)]
    halves = [[row[:, :, : -(-width // 2)].mean(2), row[:, :, width // 2 :].mean(2)] for row in rows]
    return torch.stack([torch.stack(row, dim=2) for row in halves], dim=2)


class Network(nn.Module):
    """The network of a genotype: images (N, 3, H, W) -> (logits, auxiliary logits or None).

    Auxiliary logits come in training mode only. Raises InputError if the genotype names an operator that is not
    registered.
    """

    def __init__(
        self,
        genotype: Genotype,
        channels: int,
        layers: int,
        classes: int,
        auxiliary: bool = True,
        execution: Execution = USUAL,
    ):
        super().__init__()
        check_operators(genotype)
        self.genotype = genotype
        self.execution = execution
        self.stem = build_stem(channels)
        specs = stack_cells(layers, channels, len(genotype.normal.concat), len(genotype.reduce.concat))
        cells = [NetworkCell(genotype.reduce if spec.reduction else genotype.normal, spec) for spec in specs]
        self.cells = nn.ModuleList(map(accelerate, cells) if execution.compiled else cells)
        self.auxiliary_index = auxiliary_index(layers)
        self.auxiliary_head = AuxiliaryHead(specs[self.auxiliary_index].output_channels, classes) if auxiliary else None
        self.classifier = nn.Linear(specs[-1].output_channels, classes)

    def forward(self, images: torch.Tensor, drop_path_probability: float | torch.Tensor = 0.0) -> Logits:
        auxiliary_logits = None
        with self.execution.computing_on(images.device):
            input0 = input1 = self.stem(images)
            for index, cell in enumerate(self.cells):
                input0, input1 = input1, cell(input0, input1, drop_path_probability)
                if index == self.auxiliary_index and self.training and self.auxiliary_head is not None:
                    auxiliary_logits = self.execution.as_result(self.auxiliary_head(input1))
            return self.execution.as_result(self.classifier(input1.mean(dim=(2, 3)))), auxiliary_logits


def auxiliary_index(layers: int) -> int:
    """The cell behind which the auxiliary head stands."""
    return 2 * layers // 3


def check_operators(genotype: Genotype) -> None:
    """Raises InputError if the genotype names an operator that is not registered."""
    for name in genotype.operators:
        try:
            get_operator(name)
        except InputError as error:
            raise InputError(f"genotype: {error}") from None
