"""Strategies of searching by name. A new one is a file beside darts.py, a line in STRATEGIES, a setting that asks."""

from nas.config import SearchConfig
from nas.search.strategies.darts import FIRST_ORDER, SECOND_ORDER
from nas.search.strategies.strategy import Strategy

__all__ = ["STRATEGIES", "Strategy", "strategy_of"]
STRATEGIES = {strategy.name: strategy for strategy in (FIRST_ORDER, SECOND_ORDER)}


def strategy_of(config: SearchConfig) -> Strategy:
    """The one that the settings ask for."""
    return STRATEGIES[f"DARTS, {'first' if config.order == 1 else 'second'} order"]
