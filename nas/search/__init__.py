"""The bilevel search: the state that learns, its step, the gradients of the alphas, and the loop around them."""

from nas.search.bilevel import SearchState, bilevel_step

__all__ = ["SearchState", "bilevel_step"]
