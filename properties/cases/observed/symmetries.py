"""Which symmetries an op has: each is tried on the spec, in higher precision, value and gradients.

A symmetry holds if no sample case speaks against it and some speak for it. What holds for ops that only move
elements is left out: it is a consequence of that, and says nothing more.

Of a shift, the far one is tried on backends only where every right formula gets by with it: where the
gradient is of degree one in x at most, so that the noise of x shows whatever a formula loses, or where the
value is invariant and in float32 the spec is the same to the last bit, since distances between elements are
all that is used. Elsewhere a right pullback may be a x + b or exp(x - y), which lose digits of a distant x
where the spec does not. There the near one is tried.
"""

import numpy as np

from gradspec.properties.cases.case import Case, exact_dtype
from gradspec.properties.cases.evaluate import Result
from gradspec.properties.cases.observed.movement import moves_elements
from gradspec.properties.cases.observed.sample_cases import (
    are_same,
    make_sample_cases,
    observe_once,
    run_spec_quietly,
)
from gradspec.properties.cases.symmetries import (
    SHIFT_EQUIVARIANT,
    SHIFT_INVARIANT,
    SMALL_SHIFT_EQUIVARIANT,
    SMALL_SHIFT_INVARIANT,
    SYMMETRIES,
    Symmetry,
)
from gradspec.reference.op import Op
from gradspec.reference.rule import Array

MIN_TELLING_CASES = 3
"""How many sample cases must speak for a symmetry."""

NEAR_SHIFT_BY_FAR = {SHIFT_INVARIANT: SMALL_SHIFT_INVARIANT, SHIFT_EQUIVARIANT: SMALL_SHIFT_EQUIVARIANT}


@observe_once
def observe_symmetries(op: Op) -> tuple[Symmetry, ...]:
    """Return the symmetries that backends are tried with; none for an op that only moves elements."""
    if moves_elements(op):
        return ()
    found = {symmetry for symmetry in SYMMETRIES if _holds(op, symmetry)}
    for far, near in NEAR_SHIFT_BY_FAR.items():
        if {far, near} <= found:
            found.remove(near if _bears_far_shift(op, far) else far)
    return tuple(symmetry for symmetry in SYMMETRIES if symmetry in found)


def _holds(op: Op, symmetry: Symmetry) -> bool:
    """Return whether the sample cases speak for a symmetry, and none against it."""
    telling = 0
    # Large ones first: they speak against most symmetries that do not hold, and save the others.
    for case in sorted(make_sample_cases(op), key=lambda case: -case.inputs[0].size):
        if not symmetry.leaves_value and not case.op.differentiable:
            return False  # indices and truth values are neither shifted nor doubled
        if case.inputs[0].dtype.kind in "biu" or not symmetry.applies_to(case):
            continue
        before, expected, after = _run_both(case, symmetry)
        if not _are_finite(before, after):
            continue
        if not _agree(expected, after):
            return False
        telling += telling < MIN_TELLING_CASES and bool(np.any(before.value)) and _changes(case, symmetry)
    return telling >= MIN_TELLING_CASES


def is_symmetric(case: Case, symmetry: Symmetry) -> bool:
    """Return whether the spec has a symmetry on a case, up to what rounding does in higher precision."""
    _, expected, after = _run_both(case, symmetry)
    return _agree(expected, after)


def _run_both(case: Case, symmetry: Symmetry) -> tuple[Result, Result, Result]:
    """Return what the spec gives before the change, what should follow after it, and what does."""
    wide = symmetry.prepare_case(case).map_float_arrays(lambda x: x.astype(exact_dtype(case.dtype)))
    before, after = run_spec_quietly(wide), run_spec_quietly(symmetry.change_case(wide))
    changed = {
        name: d if i else symmetry.gradient(d, wide) for i, (name, d) in enumerate(before.gradients.items())
    }
    return before, Result(symmetry.value(before.value, wide), changed), after


def _agree(expected: Result, got: Result) -> bool:
    return all(are_same(x, y) for x, y in zip(_list_arrays(expected), _list_arrays(got), strict=True))


def _are_finite(*results: Result) -> bool:
    return all(np.all(np.isfinite(x)) for result in results for x in _list_arrays(result))


def _list_arrays(result: Result) -> list[Array]:
    return [result.value, *result.gradients.values()]


def _changes(case: Case, symmetry: Symmetry) -> bool:
    """Return whether x is another after the change: one element is in the same order whatever is done."""
    before = symmetry.prepare_case(case)
    return bool(np.any(before.inputs[0] != symmetry.change_case(before).inputs[0]))


def _bears_far_shift(op: Op, far: Symmetry) -> bool:
    """Return whether a right formula may be asked for precision where x is distant."""
    cases = [case for case in make_sample_cases(op) if far.applies_to(case)]
    return all(_has_affine_gradients(case, far) for case in cases) or (
        far is SHIFT_INVARIANT and all(_is_the_same_in_float32(case, far) for case in cases)
    )


def _has_affine_gradients(case: Case, far: Symmetry) -> bool:
    """Return whether the gradients are of degree one in x at most, near this case."""
    wide = far.prepare_case(case).map_float_arrays(lambda x: x.astype(exact_dtype("float64")))
    x = wide.inputs[0]
    step = np.cos(np.arange(x.size, dtype=x.dtype)).reshape(x.shape) / 64

    def run(times: int) -> dict[str, Array]:
        return run_spec_quietly(wide.with_input(0, x + times * step)).gradients

    first, second, third = run(1), run(2), run(3)  # not 0, where elements tie
    return all(are_same(first[name] + third[name], 2 * second[name]) for name in first)


def _is_the_same_in_float32(case: Case, far: Symmetry) -> bool:
    """Return whether the spec in float32 is the same to the last bit before and after a shift."""
    narrow = far.prepare_case(case.map_float_arrays(lambda x: x.astype(np.float32)))
    before, after = run_spec_quietly(narrow), run_spec_quietly(far.change_case(narrow))
    return all(np.array_equal(x, y) for x, y in zip(_list_arrays(before), _list_arrays(after), strict=True))
