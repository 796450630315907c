"""Programs: cases that are compositions of ops and start from random inputs."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np

from gradspec.backends.addresses import find_op
from gradspec.properties.cases.case import dtype_of
from gradspec.properties.cases.literals import literal
from gradspec.properties.cases.reproducible import ReprCase
from gradspec.properties.cases.value_alphabets import COTANGENT_VALUES
from gradspec.reference.domains import Interval
from gradspec.reference.rule import Array

MAX_STEPS = 8  # of a program, without those that pick a value, or that a mask over an undefined branch adds
ONE_SMALL_COTANGENT_IN_SEEDS = 5  # one of so many seeds gives a small cotangent

_COTANGENT_VALUES = np.array(COTANGENT_VALUES)

Shape = tuple[int, ...]

REAL, MIXED, MASK = "real", "mixed", "mask"

Numbers = str | int | tuple[Any, ...]
"""What an input is made of:

    "real"                    floats of either sign, between 1/4 and 2 in size
    "mixed"                   such floats, and zeros among them
    "mask"                    truth values
    5                         integers from 0 to 4
    ("log", 0)                floats within the domain of the first argument of log
    ("log", 0, "inside", 2)   truth values: where input 2 is within that domain
"""

Input = tuple[Shape, Numbers, int]
"""The shape of an input, what it is made of, and a number that, with the seed, all its numbers depend on."""

INNER_GRADIENT, INNER_VALUE = "vjp", "value of vjp"
INNER_STEPS = (INNER_GRADIENT, INNER_VALUE)

PICK = "pick"

Step = tuple[str, tuple[int, ...], dict[str, Any]]
"""The name of an op, the values it takes and its keywords.

The numbers 0, 1, ... stand for the results of the steps, -1, -2, ... for the inputs. The result of an op of
several values is taken by steps "pick" alone, each of which gives the value of its keyword `number`. The
step "vjp" is the gradient, by the one value it takes, of a function: of its keyword `steps`, whose result has
the `shape`; and "value of vjp" is the value that vjp returns of such a function. In these steps the next
number stands for the variable of the function, and all values before it are constants that it closes over,
that by which it is differentiated among them.
"""


@dataclass(frozen=True, repr=False)
class Program(ReprCase):
    """Steps that start from random inputs; the value is the result of the last step.

    Attributes:
        dtype: The name of the dtype of all floats.
        seed: What the numbers in the inputs and in the cotangents are drawn from.
        inputs: The shapes of the inputs, and what they are made of.
        steps: The steps, in order.
        constants: The numbers (0, 1, ...) of the inputs of floats whose gradients are not asked for.
    """

    dtype: str
    seed: int
    inputs: tuple[Input, ...]
    steps: tuple[Step, ...]
    constants: tuple[int, ...] = ()

    @cached_property
    def drawn_inputs(self) -> list[Array]:
        """The inputs, of ordinary numbers; to be copied before anybody gets to write to them."""
        arrays: list[Array] = []
        for described in self.inputs:
            arrays.append(draw_input(self.dtype, self.seed, described, arrays))
        return arrays

    def draw_cotangent(self, shape: Shape, *, inner: bool = False) -> Array:
        """Return a cotangent of ordinary numbers or, now and then, of small ones, at which no tape may stop.

        Never of small ones in float16, which would lose them, nor for an inner gradient.
        """
        key = -2 if inner else -1  # inputs have positive ones
        g = _COTANGENT_VALUES[(_take_uniform(self.seed, key, shape) * len(COTANGENT_VALUES)).astype(np.int64)]
        is_small = self.seed % ONE_SMALL_COTANGENT_IN_SEEDS == ONE_SMALL_COTANGENT_IN_SEEDS - 1
        if is_small and self.dtype != "float16" and not inner:
            g = g * 2.0**-40
        return np.asarray(g).astype(dtype_of(self.dtype))

    @property
    def differentiable_inputs(self) -> list[int]:
        """The numbers (0, 1, ...) of the inputs whose gradients are asked for."""
        floats = [i for i, (_, numbers, _) in enumerate(self.inputs) if is_made_of_floats(numbers)]
        return [i for i in floats if i not in self.constants]

    @property
    def has_undefined_branch(self) -> bool:
        """Whether an op may be given numbers outside its domain, where a mask hides what it makes of them."""
        return any(numbers == MIXED for _, numbers, _ in self.inputs)

    def list_inner_shapes(self) -> list[tuple[int, Shape]]:
        """Return the number of each step that is an inner gradient, and the shape of its cotangent."""
        return [*_iterate_inner_shapes(self.steps, 0)]

    def as_json(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def as_python(self) -> str:
        return f"Program({', '.join(_write(getattr(self, field.name)) for field in fields(self))})"

    def as_lines(self) -> list[str]:
        inputs = [f"x{i} = {_write(numbers)} {shape}" for i, (shape, numbers, _) in enumerate(self.inputs)]
        return [
            f"in {self.dtype}, seed {self.seed}, by {self._name_gradients()}:",
            *inputs,
            *describe_steps(self.steps),
        ]

    def _name_gradients(self) -> str:
        return ", ".join(f"x{i}" for i in self.differentiable_inputs) or "nothing"

    def __repr__(self) -> str:
        return self.as_python()


def draw_input(dtype: str, seed: int, described: Input, earlier: list[Array]) -> Array:
    """Return an input of a program.

    Args:
        dtype: The name of the dtype of floats.
        seed: The seed of the program.
        described: What the input is.
        earlier: The inputs before it, of which it may say where they are within a domain.
    """
    shape, numbers, key = described
    uniform = _take_uniform(seed, key, shape)
    if isinstance(numbers, int):
        return np.asarray(uniform * numbers, np.int64)
    if numbers == MASK:
        return np.asarray(uniform < 0.5)
    if isinstance(numbers, tuple) and len(numbers) == 4:
        return is_inside(get_domain(*numbers[:2]), earlier[numbers[3]].astype(np.float64))
    sizes = 1 / 4 + 7 / 4 * uniform
    other = _take_uniform(seed, key + 1, shape)
    x = np.where(other < 0.5, -sizes, sizes)
    if numbers == MIXED:
        x = np.where(other % 0.5 < 1 / 6, 0, x)
    elif isinstance(numbers, tuple):
        x = _move_inside(get_domain(*numbers), x, sizes)
    return np.asarray(x).astype(dtype_of(dtype))


_UNIFORM = np.random.default_rng(0).random(2**14 + 1)
"""Random numbers between 0 and 1. To draw new ones would cost as much as all else of a small input."""


def _take_uniform(seed: int, key: int, shape: Shape) -> Array:
    """Return random numbers between 0 and 1 that the seed and the key pick."""
    start = seed * 3571 + key * 1277  # primes
    places = np.arange(start, start + math.prod(shape)) % len(_UNIFORM)
    return _UNIFORM[places].reshape(shape)


def is_made_of_floats(numbers: Numbers) -> bool:
    """Return whether an input is made of floats."""
    return numbers in (REAL, MIXED) or (isinstance(numbers, tuple) and len(numbers) == 2)


def get_domain(op: str, argument: int) -> Interval:
    """Return the domain of an argument of an op, which takes floats."""
    domain = find_op(op).domain(argument)
    assert isinstance(domain, Interval)
    return domain


def is_inside(domain: Interval, x: Array, margin: float = 0) -> Array:
    """Return where x is within a domain, further from its ends and holes than the margin."""
    inside = (x > domain.low + margin) & (x < domain.high - margin)
    for point in domain.hole:
        inside = inside & (np.abs(x - point) > margin)
    return np.asarray(inside)


def _iterate_inner_shapes(steps: Sequence[Step], first: int) -> Iterator[tuple[int, Shape]]:
    for k, (op, _, keywords) in enumerate(steps, first):
        if op == INNER_GRADIENT:
            yield k, keywords["shape"]
        if op in INNER_STEPS:
            yield from _iterate_inner_shapes(keywords["steps"], k + 1)


def drop_unused(program: Program) -> Program:
    """Return the program without the steps and inputs that its value does not depend on."""
    needed = {len(program.steps) - 1}
    for k in range(len(program.steps) - 1, -1, -1):
        if k in needed:
            needed.update(_find_operands(program.steps[k], k))
    for i in range(len(program.inputs) - 1, -1, -1):
        numbers = program.inputs[i][1]
        if ~i in needed and isinstance(numbers, tuple) and len(numbers) == 4:
            needed.add(~numbers[3])
    inputs = [i for i in range(len(program.inputs)) if ~i in needed]
    steps = [k for k in range(len(program.steps)) if k in needed]
    renumbered = {k: new for new, k in enumerate(steps)} | {~i: ~new for new, i in enumerate(inputs)}
    kept = [program.inputs[i] for i in inputs]
    return Program(
        program.dtype,
        program.seed,
        tuple((shape, _renumber_numbers(numbers, renumbered), key) for shape, numbers, key in kept),
        tuple(_renumber_step(program.steps[k], k, renumbered) for k in steps),
        tuple(~renumbered[~i] for i in program.constants if i in inputs),
    )


def _find_operands(step: Step, k: int) -> Iterator[int]:
    """Yield the numbers of what the k-th step takes, and of what an inner function in it closes over."""
    op, operands, keywords = step
    yield from operands
    for inner in keywords["steps"] if op in INNER_STEPS else ():
        yield from (n for n in inner[1] if n < k)


def _renumber_step(step: Step, k: int, renumbered: dict[int, int]) -> Step:
    op, operands, keywords = step
    if op in INNER_STEPS:
        # The variable of the function and what is computed of it are numbered from the step on.
        inner = {n: renumbered[k] + n - k for n in range(k, k + len(keywords["steps"]) + 1)}
        steps = tuple(_renumber_step(s, k, renumbered | inner) for s in keywords["steps"])
        keywords = {**keywords, "steps": steps}
    return op, tuple(renumbered[n] for n in operands), keywords


def _renumber_numbers(numbers: Numbers, renumbered: dict[int, int]) -> Numbers:
    if isinstance(numbers, tuple) and len(numbers) == 4:
        op, argument, inside, i = numbers
        return op, argument, inside, ~renumbered[~i]
    return numbers


def _move_inside(domain: Interval, x: Array, sizes: Array) -> Array:
    """Return numbers within a domain: x where it is unbounded, else at the distance `sizes` from its ends."""
    if np.isfinite(domain.low):
        x = domain.low + (sizes if np.isinf(domain.high) else sizes / 2.25 * (domain.high - domain.low))
    elif np.isfinite(domain.high):
        x = domain.high - sizes
    for point in domain.hole:
        x = np.where(np.abs(x - point) < 1 / 8, point + sizes / 4, x)
    return x


def describe_steps(
    steps: tuple[Step, ...],
    first: int = 0,
    indent: str = "",
    *,
    name_op: Callable[[str], str] = str,
    names_cotangents: bool = False,
) -> Iterator[str]:
    """Yield a line for each step; those of an inner function are indented.

    Args:
        steps: The steps.
        first: The number of the first one.
        indent: What each line begins with.
        name_op: From the name of an op to how it is written.
        names_cotangents: Name the cotangent of the inner gradient that is step k: gk.
    """
    for k, (op, operands, keywords) in enumerate(steps, first):
        names = [f"v{n}" if n >= 0 else f"x{~n}" for n in operands]
        if op in INNER_STEPS:
            what = "gradient by" if op == INNER_GRADIENT else "value that vjp gives by"
            cotangent = f" for the cotangent g{k}," if names_cotangents and op == INNER_GRADIENT else ""
            yield f"{indent}v{k} = the {what} v{k}, at {names[0]},{cotangent} of"
            yield from describe_steps(
                keywords["steps"],
                k + 1,
                indent + "  ",
                name_op=name_op,
                names_cotangents=names_cotangents,
            )
        elif op == PICK:
            yield f"{indent}v{k} = {names[0]}[{keywords['number']}]"
        else:
            written = [f"{name}={_write(value)}" for name, value in keywords.items()]
            arrays = [f"({', '.join(names)}{',' * (len(names) == 1)})"] if find_op(op).variadic else names
            yield f"{indent}v{k} = {name_op(op)}({', '.join([*arrays, *written])})"


def _write(x: Any) -> str:
    """Return a Python expression of plain values, arrays within them included."""
    if isinstance(x, dict):
        return f"{{{', '.join(f'{k!r}: {_write(v)}' for k, v in x.items())}}}"
    if isinstance(x, tuple):
        return f"({', '.join(map(_write, x))}{',' if len(x) == 1 else ''})"
    return literal(x)
