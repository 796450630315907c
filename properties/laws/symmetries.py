"""Do ops keep the symmetries that they have: under shifts, another order, another scale?

Does not see: what is wrong and still symmetric, such as a sum that is doubled; ops and symmetries that are
not in `SYMMETRIES_BY_OP`; shifts other than by 2, 8 or 1,024, and scales other than 2; changes of other
arrays than the first.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from gradspec.backends import Backend
from gradspec.properties.cases.case import Case
from gradspec.properties.cases.evaluate import differentiate
from gradspec.properties.judging.judge import Judge, Judgement, combine_judgements
from gradspec.reference.axes import normalize_axes
from gradspec.reference.rule import Array

Change = Callable[[Array, Any], Array]
"""From an array and the keywords of the op to an array."""


def _leave(x: Array, _: Any) -> Array:
    return x


def _round_to_eighths(x: Array, _: Any) -> Array:
    """Return x rounded to multiples of 1/8 up to 4 in size, to which `_shift_far` adds exactly."""
    return np.clip(np.round(x.astype(np.float64) * 8) / 8, -4, 4).astype(x.dtype)


def _shift_far(x: Array, _: Any) -> Array:
    """Return x + 1024, whose exp overflows; x + 8 in 16 bits, where more would not be exact."""
    return x + x.dtype.type(8 if x.dtype.itemsize == 2 else 1024)


def _round_to_integers(x: Array, _: Any) -> Array:
    """Return x rounded to integers up to 4 in size."""
    return np.clip(np.round(x.astype(np.float64)), -4, 4).astype(x.dtype)


def _shift_near(x: Array, _: Any) -> Array:
    """Return x + 2, for pullbacks that lose digits of a distant x, such as a g + b x + c or exp(x - y) g."""
    return x + x.dtype.type(2)


def _reorder(x: Array, keywords: Any) -> Array:
    """Return x with its elements along the axes in another order."""
    axes = normalize_axes(keywords.get("axis"), x.ndim)
    return np.roll(np.flip(x, axes), (1,) * len(axes), axes) if axes else x


def _double(x: Array, _: Any) -> Array:
    return x * x.dtype.type(2)


def _quadruple(x: Array, _: Any) -> Array:
    return x * x.dtype.type(4)


@dataclass(frozen=True)
class Symmetry:
    """What a change of x, the first array, does to the value and to the gradient of x.

    Attributes:
        name: What the value is, in words.
        x: The change of x.
        value: The change of the value that follows.
        cotangent: The change of the cotangent that goes with it.
        gradient: The change of the gradient of x that follows from both.
        prepare: Applied to x first, to make the change of x exact, so that nothing but the op rounds.
    """

    name: str
    x: Change
    value: Change = _leave
    cotangent: Change = _leave
    gradient: Change = _leave
    prepare: Change = _leave


SHIFT_INVARIANT = Symmetry("invariant under shifts", _shift_far, prepare=_round_to_eighths)
SMALL_SHIFT_INVARIANT = Symmetry("invariant under shifts", _shift_near, prepare=_round_to_integers)
SMALL_SHIFT_EQUIVARIANT = Symmetry("shifted with x", _shift_near, _shift_near, prepare=_round_to_integers)
SHIFT_EQUIVARIANT = Symmetry("shifted with x", _shift_far, _shift_far, prepare=_round_to_eighths)
ORDER_INVARIANT = Symmetry("the same in any order", _reorder, gradient=_reorder)
ORDER_EQUIVARIANT = Symmetry("reordered with x", _reorder, _reorder, _reorder, _reorder)
SCALE_EQUIVARIANT = Symmetry("doubled with x", _double, _double)
SCALE_QUADRATIC = Symmetry("quadrupled with x doubled", _double, _quadruple, gradient=_double)

SYMMETRIES_BY_OP: dict[str, tuple[Symmetry, ...]] = {
    "softmax": (SHIFT_INVARIANT, ORDER_EQUIVARIANT),
    "log_softmax": (SHIFT_INVARIANT, ORDER_EQUIVARIANT),
    "layer_norm": (SMALL_SHIFT_INVARIANT,),
    "logsumexp": (SMALL_SHIFT_EQUIVARIANT, ORDER_INVARIANT),
    "max": (SHIFT_EQUIVARIANT, ORDER_INVARIANT, SCALE_EQUIVARIANT),
    "min": (SHIFT_EQUIVARIANT, ORDER_INVARIANT, SCALE_EQUIVARIANT),
    "mean": (SHIFT_EQUIVARIANT, ORDER_INVARIANT, SCALE_EQUIVARIANT),
    "sum": (ORDER_INVARIANT, SCALE_EQUIVARIANT),
    "var": (SHIFT_INVARIANT, ORDER_INVARIANT, SCALE_QUADRATIC),
    "relu": (SCALE_EQUIVARIANT,),
    "abs": (SCALE_EQUIVARIANT,),
    "square": (SCALE_QUADRATIC,),
}
"""What the value does when all of the first array is shifted, doubled or reordered along the axes."""


def symmetries_are_kept(backend: Backend, case: Case) -> Judgement:
    """Judge whether a change of x changes the backend's value and gradients as the op's symmetries say.

    Both answers are the backend's own, so that its choices at kinks do not matter.
    """
    return combine_judgements(
        [_judge_symmetry(backend, case, symmetry) for symmetry in SYMMETRIES_BY_OP.get(case.op.name, ())]
    )


def _judge_symmetry(backend: Backend, case: Case, symmetry: Symmetry) -> Judgement:
    """Judge one symmetry: compare the result after the change with the one before, changed accordingly."""
    x, *others = case.inputs
    x, k = symmetry.prepare(x, case.keywords), case.keywords
    cotangent = symmetry.cotangent(case.cotangent, k)
    case_before = replace(case, inputs=(x, *others))
    case_after = replace(case, inputs=(symmetry.x(x, k), *others), cotangent=cotangent)
    before, got = differentiate(backend, case_before), differentiate(backend, case_after)
    judge = Judge(case_after)
    value = symmetry.value(before.value, k)
    judgements = [
        judge.judge(f"value, which is {symmetry.name},", got.value, lambda r: r.value, expected=value)
    ]
    for i, (name, d) in enumerate(before.gradients.items()):
        expected = d if i else symmetry.gradient(d, k)
        what = f"gradient of {name}, the value being {symmetry.name},"
        judgements.append(
            judge.judge(what, got.gradients[name], lambda r, n=name: r.gradients[n], expected=expected)  # type: ignore[misc]
        )
    return combine_judgements(judgements)
