"""Are gradients right through whole programs: through fan-out, diamonds and inputs that are used twice?"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradspec.backends import Backend
from gradspec.properties.case import Result, dtype_of
from gradspec.properties.generating.values import COTANGENTS
from gradspec.properties.judging.judge import SPEC, Judgement, Measure, combined
from gradspec.properties.running.failure import Described
from gradspec.reference.tape import Array

LONGEST = 8  # steps of a program

_ROWS, _COLUMNS = {"axis": 0, "keepdims": True}, {"axis": 1, "keepdims": True}
MENU: dict[str, tuple[str, int, dict[str, Any]]] = {
    "add": ("add", 2, {}),
    "multiply": ("multiply", 2, {}),
    "subtract": ("subtract", 2, {}),
    "sin": ("sin", 1, {}),
    "tanh": ("tanh", 1, {}),
    "negative": ("negative", 1, {}),
    "square": ("square", 1, {}),
    "sigmoid": ("sigmoid", 1, {}),
    "sum of rows": ("sum", 1, _ROWS),
    "mean of columns": ("mean", 1, _COLUMNS),
    "logsumexp of columns": ("logsumexp", 1, _COLUMNS),
    "softmax": ("softmax", 1, {"axis": 1}),
    "flip": ("flip", 1, {"axis": 0}),
}
"""What a step may do: the op, how many values it takes, its keywords. Any results broadcast with each other, and none
of the ops has kinks, so that a program is smooth wherever it goes."""

Step = tuple[str, tuple[int, ...]]
"""A name from the menu, and which values it takes: inputs count first, then the results of earlier steps."""


@dataclass(frozen=True)
class Program(Described):
    """Steps that start from random inputs of the given shapes; the value is the result of the last."""

    dtype: str
    seed: int
    shapes: tuple[tuple[int, ...], ...]
    steps: tuple[Step, ...]

    def inputs(self) -> list[Array]:
        """Numbers of either sign between 1/4 and 2 in size: eight squarings of them lead nowhere extreme."""
        rng = np.random.default_rng(self.seed)
        sizes = [rng.choice([-1, 1], s) * rng.uniform(1 / 4, 2, s) for s in self.shapes]
        return [x.astype(dtype_of(self.dtype)) for x in sizes]

    def cotangent(self, shape: tuple[int, ...]) -> Array:
        return np.random.default_rng(self.seed + 1).choice(COTANGENTS, shape).astype(dtype_of(self.dtype))


def menu_of(backend: Backend) -> list[str]:
    """What programs of the backend can be made of."""
    return [name for name, (op, _, _) in MENU.items() if op in backend.ops]


def every_gradient_of_a_program_agrees(backend: Backend, program: Program) -> Judgement:
    """The value of the program and its gradient by every input are the spec's."""
    exact = Measure(program.dtype, lambda convert: differentiate(SPEC, program, convert))
    got = differentiate(backend, program)
    gradients = [
        exact.judge(f"gradient of {name}", d, lambda r, name=name: r.gradients[name])  # type: ignore[misc]
        for name, d in got.gradients.items()
    ]
    value = exact.judge("value", got.value, lambda r: r.value)
    whole = combined([value, *gradients])
    return Judgement(whole.verdict, whole.reason, combined(gradients).informative, whole.worst)


def differentiate(backend: Backend, program: Program, convert: Callable[[Array], Array] = np.copy) -> Result:
    """Value and gradients of the program on a backend."""

    def run(*inputs: Any) -> Any:
        found = list(inputs)
        for name, taken in program.steps:
            op, _, keywords = MENU[name]
            found.append(backend.ops[op](*(found[i] for i in taken), **keywords))
        return found[-1]

    inputs = [backend.from_numpy(convert(x)) for x in program.inputs()]
    value, pullback = backend.vjp(run, *inputs)
    end = backend.to_numpy(value)
    gradients = pullback(backend.from_numpy(convert(program.cotangent(end.shape))))
    names = [f"input {i}" for i in range(len(inputs))]
    return Result(end, dict(zip(names, map(backend.to_numpy, gradients), strict=True)))
