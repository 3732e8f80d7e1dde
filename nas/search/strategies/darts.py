"""DARTS (Liu, Simonyan, Yang, ICLR 2019): softmax, gradients of first or second order, the two strongest edges."""

from nas.search.architect import first_order_gradients, second_order_gradients
from nas.search.strategies.strategy import Strategy

FIRST_ORDER = Strategy(
    "DARTS, first order",
    lambda supernet, train, validation, unrolling: first_order_gradients(supernet, validation),
)
SECOND_ORDER = Strategy("DARTS, second order", second_order_gradients)
