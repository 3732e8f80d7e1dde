"""What can be trained; a genotype is one kind of it. A new kind is a class here that `parse_architecture` reads."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import nn

from cells.costs import Costs, network_costs
from cells.execution import USUAL, Execution
from cells.genotype import Genotype
from cells.genotype_file import parse_genotype
from cells.network import Network, check_operators


class Architecture(ABC):
    """Builds its network, counts what that costs, names itself and stores itself. Equal ones build equal networks."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What pages and messages call it."""

    @property
    @abstractmethod
    def operators(self) -> tuple[str, ...]:
        """The registered operators that its network is made of, each once."""

    @abstractmethod
    def check(self) -> None:
        """Raises InputError if its network cannot be built, as an operator of it is not registered."""

    @abstractmethod
    def build(
        self, channels: int, layers: int, classes: int, auxiliary: bool = True, execution: Execution = USUAL
    ) -> nn.Module:
        """images (N, 3, H, W) -> (logits, auxiliary logits or None). `channels` and `layers` say how large it is."""

    @abstractmethod
    def costs(self, channels: int, layers: int, classes: int, image_size: int) -> Costs:
        """Of that network, without building it."""

    @abstractmethod
    def to_json(self) -> str:
        """The text that `parse_architecture` reads."""


@dataclass(frozen=True)
class CellArchitecture(Architecture):
    """DARTS' stack of a genotype's normal and reduction cells."""

    genotype: Genotype

    @property
    def name(self) -> str:
        return self.genotype.space

    @property
    def operators(self) -> tuple[str, ...]:
        return self.genotype.operators

    def check(self) -> None:
        check_operators(self.genotype)

    def build(
        self, channels: int, layers: int, classes: int, auxiliary: bool = True, execution: Execution = USUAL
    ) -> Network:
        return Network(self.genotype, channels, layers, classes, auxiliary, execution)

    def costs(self, channels: int = 36, layers: int = 20, classes: int = 10, image_size: int = 32) -> Costs:
        return network_costs(self.genotype, channels, layers, classes, image_size)

    def to_json(self) -> str:
        return self.genotype.to_json()


def parse_architecture(text: str) -> Architecture:
    """The architecture in a JSON text. Raises InputError that says what is wrong with it."""
    return CellArchitecture(parse_genotype(text))


def as_architecture(given: Genotype | Architecture) -> Architecture:
    """A genotype as the architecture that it is; others as they are."""
    return CellArchitecture(given) if isinstance(given, Genotype) else given
