"""Which of a backend's ops take part in programs, and as what: observed, not read off their names."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from gradspec.backends import Backend
from gradspec.properties.cases.programs import MIXED, draw_input, is_inside
from gradspec.reference import OPS, Op
from gradspec.reference.calls import IntegerArrayBelow, SeededChoices, SmallestChoices
from gradspec.reference.domains import Interval
from gradspec.reference.op import fill_from_domain


@dataclass(frozen=True)
class ProgramOps:
    """The names of the ops that programs are made of, by what they do.

    Attributes:
        pairing: Smooth elementwise ops of several arrays of any numbers, such as add.
        combining: Other ops of several arrays of floats, such as maximum and concat.
        mixing: Those that also combine the elements of one array, such as matmul.
        comparing: Ops of several arrays of floats whose values are truth values.
        moving: Ops of one array that only move, repeat or select its elements.
        stopping: Smooth ops of one array with a gradient of zero: stop_gradient.
        others: The others of one array.
        partial: Smooth elementwise ops one of whose arguments has a domain that leaves out zero or negative
            numbers, with the number of that argument. Behind a mask they may be undefined.
    """

    pairing: list[str] = field(default_factory=list)
    combining: list[str] = field(default_factory=list)
    mixing: list[str] = field(default_factory=list)
    comparing: list[str] = field(default_factory=list)
    moving: list[str] = field(default_factory=list)
    stopping: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    partial: list[tuple[str, int]] = field(default_factory=list)

    @property
    def of_several(self) -> list[str]:
        """The differentiable ops of several arrays of floats."""
        return [*self.pairing, *self.combining, *self.mixing]


def classify_ops(names: Iterable[str]) -> ProgramOps:
    """Return the ops of these names that take floats, classified."""
    ops = ProgramOps()
    for name in names:
        op = OPS[name]
        if _takes_what_programs_lack(op):
            continue
        floats = [i for i, domain in enumerate(op.domains) if isinstance(domain, Interval)]
        is_smooth_elementwise = op.elementwise and op.differentiable and op.kinks is None
        is_smooth_elementwise = is_smooth_elementwise and not op.has_several_values
        if op.variadic:
            ops.combining.append(name)
        elif len(floats) > 1 and compares(op):
            ops.comparing.append(name)
        elif len(floats) > 1 and not op.elementwise:
            ops.mixing.append(name)
        elif len(floats) > 1:
            is_pairing = is_smooth_elementwise and all(domain == Interval() for domain in op.domains)
            (ops.pairing if is_pairing else ops.combining).append(name)
        elif floats:
            stops = op.has_zero_gradient and op.kinks is None
            (ops.stopping if stops else ops.moving if only_moves(op) else ops.others).append(name)
        if is_smooth_elementwise:
            ops.partial.extend((name, i) for i in floats if not _admits_mixed(op, i))
    return ops


def list_program_ops(backend: Backend) -> list[str]:
    """Return the names of the backend's ops that take part in programs, in the order of the spec.

    An op whose deviation is declared for all laws and all dtypes takes no part: the entry would not excuse a
    program that has it.
    """
    wrong = {d.op for d in backend.deviations if not d.law and not d.dtypes}
    return [name for name in OPS if name in backend.ops and name not in wrong]


@cache
def _takes_what_programs_lack(op: Op) -> bool:
    """Return whether the op takes floats without a gradient, or integers of which none may recur.

    In a program any array may be computed from the inputs, and any place may be named twice.
    """
    shapes = op.draw_call(SmallestChoices()).shapes
    distinct = any(isinstance(s, IntegerArrayBelow) and s.distinct_along is not None for s in shapes)
    return distinct or any(isinstance(d, Interval) and not d.has_gradient for d in op.domains)


@cache
def compares(op: Op) -> bool:
    """Return whether the op's values are truth values, on its smallest call; of several, the first."""
    op = op.value_forms[0]
    call = op.draw_call(SmallestChoices())
    inputs = [fill_from_domain(op.domain(i), s) for i, s in enumerate(call.shapes)]
    return np.asarray(op.compute_value(*inputs, **call.keywords)).dtype.kind == "b"


@cache
def only_moves(op: Op) -> bool:
    """Return whether an op of one array is smooth and all that its values hold are elements of the array.

    Seen on a few small calls, of several values on the first.
    """
    op = op.value_forms[0]
    if op.kinks is not None or not op.differentiable:
        return False
    for seed in range(4):
        call = op.draw_call(SeededChoices(seed, (2, 3)))
        inputs = [fill_from_domain(op.domain(i), s) for i, s in enumerate(call.shapes)]
        for i, s in enumerate(call.shapes):
            if isinstance(op.domain(i), Interval) and not isinstance(s, IntegerArrayBelow):
                inputs[i] = draw_input("float64", seed, (s, (op.address, i), i), [])
        value = np.asarray(op.compute_value(*inputs, **call.keywords))
        elements = np.concatenate([np.ravel(x) for x in inputs if x.dtype.kind == "f"])
        if not np.all(np.isin(value, elements)):
            return False
    return True


@cache
def _admits_mixed(op: Op, argument: int) -> bool:
    """Return whether an argument may be any of the numbers of a mixed input: of either sign, or zero."""
    domain = op.domain(argument)
    numbers = draw_input("float64", 0, ((64,), MIXED, 0), [])
    return not isinstance(domain, Interval) or bool(np.all(is_inside(domain, numbers)))
