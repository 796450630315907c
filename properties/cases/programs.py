"""Programs: cases that are compositions of ops and start from random inputs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradspec.backends import Backend
from gradspec.properties.cases.case import dtype_of
from gradspec.properties.cases.reproducible import ReprCase
from gradspec.properties.cases.value_alphabets import COTANGENT_VALUES
from gradspec.reference.rule import Array

MAX_STEPS = 8  # of a program
ONE_SMALL_COTANGENT_IN_SEEDS = 5  # one of so many seeds gives a small cotangent

Shape = tuple[int, int]
MakeKeywords = Callable[[Shape], dict[str, Any]]


@dataclass(frozen=True)
class MenuItem:
    """What a step may do.

    Attributes:
        op: The name of the op.
        arity: How many values it takes.
        keywords: Its keywords, as a function of the shape of the first value.
        result_shape: The shape of its result, as a function of the shape of the first value.
    """

    op: str
    arity: int = 1
    keywords: MakeKeywords = lambda shape: {}
    result_shape: Callable[[Shape], Shape] = lambda shape: shape


def _make_reduction_items(op: str) -> dict[str, MenuItem]:
    """Return menu items that reduce over either axis, which stays with length 1."""
    return {
        f"{op} of rows": MenuItem(op, 1, lambda _: {"axis": 0, "keepdims": True}, lambda s: (1, s[1])),
        f"{op} of columns": MenuItem(op, 1, lambda _: {"axis": 1, "keepdims": True}, lambda s: (s[0], 1)),
    }


def _make_axis_op_items(op: str) -> dict[str, MenuItem]:
    """Return menu items that apply the op along either axis."""
    return {
        f"{op} of rows": MenuItem(op, 1, lambda _: {"axis": 0}),
        f"{op} of columns": MenuItem(op, 1, lambda _: {"axis": 1}),
    }


def _get_one_row_shape(s: Shape) -> Shape:
    return 1, s[1]


MENU: dict[str, MenuItem] = {
    "add": MenuItem("add", 2),
    "multiply": MenuItem("multiply", 2),
    "subtract": MenuItem("subtract", 2),
    "sin": MenuItem("sin"),
    "tanh": MenuItem("tanh"),
    "negative": MenuItem("negative"),
    "square": MenuItem("square"),
    "sigmoid": MenuItem("sigmoid"),
    **_make_reduction_items("sum"),
    **_make_reduction_items("mean"),
    **_make_reduction_items("logsumexp"),
    **_make_axis_op_items("softmax"),
    **_make_axis_op_items("flip"),
    "last row": MenuItem("getitem", 1, lambda _: {"key": (slice(-1, None),)}, _get_one_row_shape),
    "last row by a mask": MenuItem(
        "getitem", 1, lambda s: {"key": (np.arange(s[0]) == s[0] - 1,)}, _get_one_row_shape
    ),
    "each second row twice": MenuItem("getitem", 1, lambda s: {"key": (np.arange(s[0]) // 2,)}),
}
"""What a step may do.

Any results broadcast with each other, and none of the ops has kinks, so that a program is smooth wherever it
leads.
"""


Step = tuple[str, tuple[int, ...]]
"""A name from the menu and the numbers of the values it takes: inputs first, then earlier results."""


@dataclass(frozen=True)
class Program(ReprCase):
    """Steps that start from random inputs; the value is the result of the last step.

    Attributes:
        dtype: The name of the dtype of all arrays.
        seed: What the numbers in the inputs and in the cotangent are drawn from.
        shapes: The shapes of the inputs.
        steps: The steps, in order.
        constants: The numbers of the inputs whose gradients are not asked for.
    """

    dtype: str
    seed: int
    shapes: tuple[Shape, ...]
    steps: tuple[Step, ...]
    constants: tuple[int, ...] = ()

    def draw_inputs(self) -> list[Array]:
        """Return inputs of either sign, between 1/4 and 2 in size: eight squarings stay ordinary."""
        rng = np.random.default_rng(self.seed)
        sizes = [rng.choice([-1, 1], s) * rng.uniform(1 / 4, 2, s) for s in self.shapes]
        return [x.astype(dtype_of(self.dtype)) for x in sizes]

    def draw_cotangent(self, shape: tuple[int, ...]) -> Array:
        """Return a cotangent of ordinary numbers or, now and then, of small ones, at which no tape may stop.

        Never of small ones in float16, which would lose them.
        """
        g = np.random.default_rng(self.seed + 1).choice(COTANGENT_VALUES, shape)
        is_small = self.seed % ONE_SMALL_COTANGENT_IN_SEEDS == ONE_SMALL_COTANGENT_IN_SEEDS - 1
        if is_small and self.dtype != "float16":
            g = g * 2.0**-40
        return np.asarray(g, dtype_of(self.dtype))


def filter_menu(backend: Backend) -> list[str]:
    """Return the names of the menu items whose ops the backend offers."""
    return [name for name, item in MENU.items() if item.op in backend.ops]
