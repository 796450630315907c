"""The cells of a table of times: one pass of one call of an op, on several sides in turns."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gradspec.backends import Backend
from gradspec.properties.cases.case import Case
from gradspec.properties.cases.evaluate import bind_constants
from gradspec.properties.judging.error_descriptions import describe_exception
from gradspec.properties.judging.spec_backend import get_spec_backend
from gradspec.reference import Op
from gradspec.timing.calls import make_typical_call
from gradspec.timing.clocks import make_clock
from gradspec.timing.right_results import (
    NotFinite,
    WrongResult,
    compute_exactly,
    make_case,
    require_half_of_the_digits,
    require_right_result,
)
from gradspec.timing.turns import Clock, Spread, make_slice_timer, measure_in_turns

SPEC = "spec"
"""What the side of the spec is called."""

DIRECTIONS = ("forward", "backward")

# Of the arrays of a side in memory; fewer may all be better than those of another side.
MIN_PLACEMENTS, MIN_LARGE_PLACEMENTS = 7, 3
PAGE_BYTES, LARGE_PAGE_BYTES = 2**12, 2**21

Passes = dict[str, Callable[[], Any]]
"""The passes of a case, by direction."""


@dataclass(frozen=True)
class Side:
    """One of those that are compared.

    Attributes:
        label: What tables call it.
        backend: The backend; None for the spec.
    """

    label: str
    backend: Backend | None

    def offers(self, op: Op) -> bool:
        return self.backend is None or op.address in self.backend.ops


class NotTimed(Exception):
    """Why a call gets no time, in one line."""


@dataclass(frozen=True)
class Cell:
    """The times of one pass of one call.

    Attributes:
        op: The address of the op.
        size: One of `calls.SIZES`.
        case: The call, with its arrays.
        direction: "forward", the value with nothing recorded, or "backward", all gradients of one cotangent.
        samples: By the label of each side the seconds of one call, round by round.
    """

    op: str
    size: str
    case: Case
    direction: str
    samples: Mapping[str, Sequence[float]]

    @property
    def first(self) -> str:
        """The label of the side under test."""
        return next(iter(self.samples))

    def get_seconds(self, label: str) -> Spread:
        return Spread.of(self.samples[label])

    def get_ratios(self, label: str) -> list[float]:
        """Return how many times as long the side under test takes as this one, round by round."""
        return [a / b for a, b in zip(self.samples[self.first], self.samples[label], strict=True)]


class TimedCall:
    """The typical call of an op at one size, made ready on several sides.

    Of an op of several values the first one is meant: what its forward pass takes is that of all of them.

    Attributes:
        case: The call, with its arrays.
        complaints: By label, why a side other than the first has no time.
    """

    def __init__(self, op: Op, size: str, dtype: str, sides: Sequence[Side]) -> None:
        """Check the results of every side, and make its passes ready.

        Raises:
            NotTimed: if the first side is wrong or raises, or the spec's results are not finite.
        """
        op = getattr(op, "value_forms", (op,))[0]
        self.op, self.size = op, size
        self.complaints: dict[str, str] = {}
        self._passes: dict[str, list[Passes]] = {}
        self._clocks: dict[str, Clock] = {}
        self._spacers: list[Any] = []
        try:
            self.case = make_case(op, make_typical_call(op, size), dtype)
            exact = compute_exactly(self.case)
        except Exception as error:
            raise NotTimed(f"at size {size}, {_describe(error)}") from error
        for side in sides:
            backend, case = side.backend, self.case
            try:
                if backend is None:
                    backend, case = get_spec_backend(), widen_if_16_bits(case)
                elif size == "memory":
                    require_half_of_the_digits(backend, case, exact)
                else:
                    require_right_result(backend, case)
                self._prepare(side.label, backend, case)
            except Exception as error:
                complaint = f"at size {size}, {_describe(error)}"
                if side is sides[0]:
                    raise NotTimed(complaint) from error
                self.complaints[side.label] = complaint

    @property
    def directions(self) -> list[str]:
        """The passes that the op has."""
        return [d for d in DIRECTIONS if all(d in placed[0] for placed in self._passes.values())]

    def measure(self, direction: str, seconds: float) -> Cell:
        """Time one pass on all sides in turns, for about so many seconds."""
        takes = [
            _make_cycle([make_slice_timer(passes[direction], self._clocks[label]) for passes in placed])
            for label, placed in self._passes.items()
        ]
        samples = zip(*measure_in_turns(takes, seconds), strict=True)
        named = dict(zip(self._passes, samples, strict=True))
        return Cell(self.op.address, self.size, self.case, direction, named)

    def _prepare(self, label: str, backend: Backend, case: Case) -> None:
        """Make the passes of a side ready, several times over.

        Where in a page an array begins can make 10% of a time. So there are copies at other places, and they
        take turns, too. No two sides have the same number of them: each of one meets each of the others.
        """
        is_large = self.size == "memory"
        count = (MIN_LARGE_PLACEMENTS if is_large else MIN_PLACEMENTS) + len(self._passes)
        if backend.device != "cpu":
            count = 1  # what is said above is of processors
        rng, placed = np.random.default_rng(len(self._passes)), list[Passes]()
        for _ in range(count):
            spacer_bytes = rng.integers(16, LARGE_PAGE_BYTES if is_large else PAGE_BYTES)
            self._spacers.append(np.empty(spacer_bytes, np.uint8))
            passes, self._clocks[label] = prepare_passes(backend, case)
            placed.append(passes)
        self._passes[label] = placed


def _make_cycle(takes: Sequence[Callable[[], float]]) -> Callable[[], float]:
    """Return a function that calls one of these functions after the other, and the first one again."""
    cycle = itertools.cycle(takes)

    def take_next() -> float:
        return next(cycle)()

    return take_next


def prepare_passes(backend: Backend, case: Case) -> tuple[Passes, Clock]:
    """Return the forward and, if there is a gradient, the backward pass of a case, and a clock for them."""
    arrays, cotangent = case.to_backend_arrays(backend)
    wrt = case.differentiable_inputs
    function, xs = bind_constants(backend, case, arrays, wrt), [arrays[i] for i in wrt]
    passes: Passes = {"forward": lambda: function(*xs)}
    if wrt:
        _, pullback = backend.vjp(function, *xs)
        passes["backward"] = lambda: pullback(cotangent)
    return passes, make_clock(backend, cotangent)


def widen_if_16_bits(case: Case) -> Case:
    """Return the case in float32 if it is of 16-bit floats, in which NumPy hardly counts."""
    if case.cotangent.dtype.itemsize != 2:
        return case
    return replace(case.map_float_arrays(lambda x: x.astype(np.float32)), dtype="float32")


def _describe(error: Exception) -> str:
    """Return what went wrong in one line, with the innermost frame of what was raised."""
    if isinstance(error, WrongResult | NotFinite):
        return " ".join(str(error).split())
    lines = describe_exception(error).split("\n")
    return f"it {' '.join(dict.fromkeys((lines[0], lines[-1].strip())))}"
