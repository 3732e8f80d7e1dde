"""The two commands, as the tests call them."""

from nas.commands.search import search
from nas.commands.train import train

__all__ = ["search", "train"]
