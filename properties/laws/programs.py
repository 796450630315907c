"""Are gradients right through whole programs: through fan-out, diamonds and inputs that are used twice?"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradspec.backends import Backend
from gradspec.properties.cases.case import dtype_of
from gradspec.properties.cases.evaluate import Result
from gradspec.properties.cases.values import COTANGENT_VALUES
from gradspec.properties.judging.judge import SPEC_BACKEND, ComputationJudge, Judgement, combine_judgements
from gradspec.properties.running.failure import ReprCase
from gradspec.reference.tape import Array

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


def every_gradient_of_a_program_agrees(backend: Backend, program: Program) -> Judgement:
    """The value of the program and its gradient by every input are the spec's."""
    exact = ComputationJudge(
        program.dtype, lambda convert: differentiate_program(SPEC_BACKEND, program, convert)
    )
    got = differentiate_program(backend, program, pull_twice=True)
    gradients = [
        exact.judge(f"gradient of {name}", d, lambda r, name=name: r.gradients[name])  # type: ignore[misc]
        for name, d in got.gradients.items()
    ]
    value = exact.judge("value", got.value, lambda r: r.value)
    whole = combine_judgements([value, *gradients])
    return Judgement(whole.verdict, whole.reason, combine_judgements(gradients).informative, whole.worst)


def differentiate_program(
    backend: Backend,
    program: Program,
    convert: Callable[[Array], Array] = np.copy,
    *,
    pull_twice: bool = False,
) -> Result:
    """Value and gradients of the program on a backend.

    again: the gradients are those of a second call of the pullback, with the same cotangent: the first may have used it up.
    """
    given = [backend.from_numpy(convert(x)) for x in program.draw_inputs()]
    free = [i for i in range(len(given)) if i not in program.constants]

    def run(*inputs: Any) -> Any:
        found, shapes = list(given), list(program.shapes)
        for i, x in zip(free, inputs, strict=True):
            found[i] = x
        for name, taken in program.steps:
            entry, (shape, *others) = MENU[name], [shapes[i] for i in taken]
            found.append(backend.ops[entry.op](*(found[i] for i in taken), **entry.keywords(shape)))
            shapes.append(np.broadcast_shapes(entry.result_shape(shape), *others))
        return found[-1]

    value, pullback = backend.vjp(run, *(given[i] for i in free))
    end = backend.to_numpy(value)
    g = backend.from_numpy(convert(program.draw_cotangent(end.shape)))
    if pull_twice:
        pullback(g)
    gradients = pullback(g)
    names = [f"input {i}" for i in free]
    return Result(end, dict(zip(names, map(backend.to_numpy, gradients), strict=True)))
