"""Programs: compositions of ops that start from random inputs, as cases."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradspec.backends import Backend
from gradspec.properties.cases.case import dtype_of
from gradspec.properties.cases.reproducible import ReprCase
from gradspec.properties.cases.values import COTANGENT_VALUES
from gradspec.reference.rule import Array

MAX_STEPS = 8  # steps of a program


SEEDS_PER_SMALL_COTANGENT = 5  # of so many programs, one has a small cotangent


Shape = tuple[int, int]


Keywords = Callable[[Shape], dict[str, Any]]


@dataclass(frozen=True)
class MenuItem:
    """What a step may do: an op, and how many values it takes; by the shape of the first, its keywords and what axes it leaves."""

    op: str
    arity: int = 1
    keywords: Keywords = lambda shape: {}
    result_shape: Callable[[Shape], Shape] = lambda shape: shape


def _make_reductions(op: str) -> dict[str, MenuItem]:
    """The op over either axis, which stays with length 1."""
    return {
        f"{op} of rows": MenuItem(op, 1, lambda _: {"axis": 0, "keepdims": True}, lambda s: (1, s[1])),
        f"{op} of columns": MenuItem(op, 1, lambda _: {"axis": 1, "keepdims": True}, lambda s: (s[0], 1)),
    }


def _make_axis_ops(op: str) -> dict[str, MenuItem]:
    """The op along either axis."""
    return {
        f"{op} of rows": MenuItem(op, 1, lambda _: {"axis": 0}),
        f"{op} of columns": MenuItem(op, 1, lambda _: {"axis": 1}),
    }


def _keep_one_row(s: Shape) -> Shape:
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
    **_make_reductions("sum"),
    **_make_reductions("mean"),
    **_make_reductions("logsumexp"),
    **_make_axis_ops("softmax"),
    **_make_axis_ops("flip"),
    "last row": MenuItem("getitem", 1, lambda _: {"key": (slice(-1, None),)}, _keep_one_row),
    "last row by a mask": MenuItem(
        "getitem", 1, lambda s: {"key": (np.arange(s[0]) == s[0] - 1,)}, _keep_one_row
    ),
    "each second row twice": MenuItem("getitem", 1, lambda s: {"key": (np.arange(s[0]) // 2,)}),
}
"""What a step may do. Any results broadcast with each other, and none of the ops has kinks, so that a program is smooth
wherever it goes."""


Step = tuple[str, tuple[int, ...]]
"""A name from the menu, and which values it takes: inputs count first, then the results of earlier steps."""


@dataclass(frozen=True)
class Program(ReprCase):
    """Steps that start from random inputs of the given shapes; the value is the result of the last.

    constants: which of the inputs, by number, no gradient is asked of.
    """

    dtype: str
    seed: int
    shapes: tuple[Shape, ...]
    steps: tuple[Step, ...]
    constants: tuple[int, ...] = ()

    def draw_inputs(self) -> list[Array]:
        """Numbers of either sign between 1/4 and 2 in size: eight squarings of them lead nowhere extreme."""
        rng = np.random.default_rng(self.seed)
        sizes = [rng.choice([-1, 1], s) * rng.uniform(1 / 4, 2, s) for s in self.shapes]
        return [x.astype(dtype_of(self.dtype)) for x in sizes]

    def draw_cotangent(self, shape: tuple[int, ...]) -> Array:
        """Of ordinary numbers, or now and then of small ones: that is no reason to stop."""
        g = np.random.default_rng(self.seed + 1).choice(COTANGENT_VALUES, shape)
        small = (
            self.seed % SEEDS_PER_SMALL_COTANGENT == SEEDS_PER_SMALL_COTANGENT - 1 and self.dtype != "float16"
        )  # which would lose them
        return np.asarray(g * 2.0**-40 if small else g, dtype_of(self.dtype))


def filter_menu(backend: Backend) -> list[str]:
    """What programs of the backend can be made of."""
    return [name for name, entry in MENU.items() if entry.op in backend.ops]
