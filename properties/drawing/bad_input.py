"""Hypothesis strategies: cases with something wrong that the spec refuses."""

import itertools
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from gradspec.properties.cases.case import Case, dtype_of
from gradspec.properties.cases.evaluate import run_on_backend
from gradspec.properties.drawing.strategies import Draw, cases
from gradspec.properties.judging.judge import get_spec_backend
from gradspec.reference.calls import SeededChoices
from gradspec.reference.domains import Integers, Interval
from gradspec.reference.op import Op
from gradspec.reference.rule import Array

Corruption = Callable[[Case, SeededChoices], Case | None]
"""Returns the case with a change that may well be an error, or None where there is nothing to change."""

GOOD_CASES_PER_EXAMPLE = 2
MAX_ELEMENTS_BAD_INPUT = 60  # of an array
MAX_REFUSED_PER_GOOD_CASE = 2  # for each good one


@st.composite
def bad_input_cases(draw: Draw, op: Op, dtypes: Sequence[str], allow_bad_indices: bool) -> list[Case]:
    """Draw cases as `cases` does, each followed by corrupted versions of it that the spec refuses.

    Args:
        draw: Given by Hypothesis.
        op: The op.
        dtypes: The dtypes to choose from; only float64 and float32 are used, and without any of them there
            are no cases.
        allow_bad_indices: Whether indices may be out of range. On CUDA these make the device unusable for the
            rest of the process instead of raising.
    """
    wide_dtypes = [d for d in dtypes if d in ("float64", "float32")]
    if not wide_dtypes:
        return []
    good = draw(cases(op, wide_dtypes, GOOD_CASES_PER_EXAMPLE, False, MAX_ELEMENTS_BAD_INPUT))
    choose = SeededChoices(draw(st.integers(0, 2**16 - 1)))
    corruptions = [f for f in CORRUPTIONS if allow_bad_indices or f not in INDEX_CORRUPTIONS]
    example = []
    for case in good:
        choose.random.shuffle(corruptions)
        candidates = (corrupt(case, choose) for corrupt in corruptions)
        refused = (candidate for candidate in candidates if candidate is not None and is_refused(candidate))
        example += [case, *itertools.islice(refused, MAX_REFUSED_PER_GOOD_CASE)]
    return example


def is_refused(case: Case) -> bool:
    """Return whether the spec raises, where a library can be expected to raise as well.

    Torch skips what has no elements.
    """
    if any(x.size == 0 for x in (*case.inputs, case.cotangent)):
        return False
    try:
        # 0/0 is an answer.
        with warnings.catch_warnings(action="ignore"), np.errstate(all="ignore"):
            run_on_backend(get_spec_backend(), case)
    except Exception:
        return True
    return False


def an_axis_longer_or_shorter(case: Case, choose: SeededChoices) -> Case | None:
    return _change_one_axis(
        case, choose, lambda s, i: (*s[:i], choose.of([s[i] + 1, 1, 2, max(s[i] - 1, 0)]), *s[i + 1 :])
    )


def one_axis_too_many(case: Case, choose: SeededChoices) -> Case | None:
    return _resize_one_input(case, choose, lambda s: choose.of([(1, *s), (*s, 1), (2, *s), (*s, 3)]))


def axes_that_do_not_fit(case: Case, choose: SeededChoices) -> Case | None:
    """Two arrays that end in axes of length 2 and 3."""
    if len(case.inputs) < 2:
        return None
    first, second = case.inputs[:2]
    longer = _replace_input(case, 0, np.resize(first, (*first.shape, 2)))
    return _replace_input(longer, 1, np.resize(second, (*second.shape, 3)))


def one_axis_too_few(case: Case, choose: SeededChoices) -> Case | None:
    return _change_one_axis(case, choose, lambda s, i: (*s[:i], *s[i + 1 :]))


def a_cotangent_of_another_shape(case: Case, choose: SeededChoices) -> Case | None:
    s = case.cotangent.shape
    shapes = [
        (1, *s),
        (*s, 1),
        (*s, 2),
        s[1:],
        s[:-1],
        (1,) * len(s),
        s[::-1],
        (*s[:-1], s[-1] + 1) if s else (2,),
    ]
    return replace(case, cotangent=np.resize(case.cotangent, choose.of(shapes)))


def an_axis_out_of_range(case: Case, choose: SeededChoices) -> Case | None:
    n = max((x.ndim for x in case.inputs), default=0)
    # As in torch, 0 and -1 are not wrong where there are 0 dimensions.
    wrong = choose.of([n, n + 1, -n - 1, n + 3, -n - 3] if n else [1, -2, 3])
    name = _get_axis_keyword(case)
    if name is None:
        return None
    axes = case.keywords[name]
    if isinstance(axes, tuple) and axes:
        k = choose.integer(0, len(axes) - 1)
        return _replace_keywords(case, **{name: (*axes[:k], wrong, *axes[k + 1 :])})
    return _replace_keywords(case, **{name: wrong})


def an_axis_named_twice(case: Case, choose: SeededChoices) -> Case | None:
    n = max((x.ndim for x in case.inputs), default=0)
    name = _get_axis_keyword(case)
    if name is None or not n or not isinstance(case.keywords[name], tuple | None):
        return None
    axis = choose.integer(0, n - 1)
    return _replace_keywords(case, **{name: choose.of([(axis, axis), (axis, axis - n)])})


def a_shape_of_another_size(case: Case, choose: SeededChoices) -> Case | None:
    if "shape" not in case.keywords:
        return None
    s = case.keywords["shape"]
    size = math.prod(case.inputs[0].shape)
    shapes = [(size + 1,), (*s, 2), (*s, size + 2)]
    # In torch's broadcast_to, -1 is an axis to be kept.
    if case.op.address == "reshape":
        shapes += [(-1, -1), (-2, *s), (3, -1)]
    return _replace_keywords(case, shape=choose.of(shapes))


def a_word_that_means_nothing(case: Case, choose: SeededChoices) -> Case | None:
    words = [k for k, v in case.keywords.items() if isinstance(v, str)]
    if not words:
        return None
    return _replace_keywords(case, **{choose.of(words): choose.of(["", "nonsense", "MEAN"])})


def an_index_out_of_range(case: Case, choose: SeededChoices) -> Case | None:
    """Of a class label or another array of indices, or of an element of a key."""
    for i, x in enumerate(case.inputs):
        if isinstance(case.op.domain(i), Integers) and x.size:
            wrong = x.copy()
            classes = case.inputs[0].shape[min(1, case.inputs[0].ndim - 1)]
            beyond = max(n for y in case.inputs for n in (1, *y.shape))
            wrong.flat[choose.integer(0, x.size - 1)] = choose.of([classes, -1, classes + 5, -100, beyond])
            return _replace_input(case, i, wrong)
    key = case.keywords.get("key")
    if not isinstance(key, tuple):
        return None
    places = [k for k, part in enumerate(key) if isinstance(part, int | np.ndarray) and np.size(part)]
    if not places:
        return None
    k = choose.of(places)
    wrong = np.full(np.shape(key[k]), choose.of([50, -50, 300]))
    return _replace_keywords(case, key=(*key[:k], int(wrong) if wrong.ndim == 0 else wrong, *key[k + 1 :]))


def floats_for_labels(case: Case, choose: SeededChoices) -> Case | None:
    """Of class labels, or of truth values."""
    places = [i for i in range(len(case.inputs)) if not isinstance(case.op.domain(i), Interval)]
    if not places:
        return None
    i = choose.of(places)
    return case.with_input(i, case.inputs[i].astype(dtype_of(case.dtype)))


def floats_for_indices(case: Case, choose: SeededChoices) -> Case | None:
    key = case.keywords.get("key")
    if not isinstance(key, tuple):
        return None
    places = [k for k, part in enumerate(key) if isinstance(part, np.ndarray)]
    if not places:
        return None
    k = choose.of(places)
    return _replace_keywords(case, key=(*key[:k], key[k].astype(np.float64), *key[k + 1 :]))


def a_key_that_does_not_fit(case: Case, choose: SeededChoices) -> Case | None:
    if "key" not in case.keywords:
        return None
    x = case.inputs[0]
    longer = np.ones((*x.shape[:-1], x.shape[-1] + 1) if x.ndim else (2,), bool)
    keys = [(0,) * (x.ndim + 1), longer, (slice(None),) * (x.ndim + 1)]
    return _replace_keywords(case, key=choose.of(keys))


CORRUPTIONS: tuple[Corruption, ...] = (
    an_axis_longer_or_shorter,
    one_axis_too_many,
    axes_that_do_not_fit,
    one_axis_too_few,
    a_cotangent_of_another_shape,
    an_axis_out_of_range,
    an_axis_named_twice,
    a_shape_of_another_size,
    a_word_that_means_nothing,
    an_index_out_of_range,
    a_key_that_does_not_fit,
    floats_for_labels,
    floats_for_indices,
)
INDEX_CORRUPTIONS = {an_index_out_of_range, a_key_that_does_not_fit}


def _get_axis_keyword(case: Case) -> str | None:
    return next((k for k in ("axis", "axes") if k in case.keywords), None)


def _change_one_axis(case: Case, choose: SeededChoices, change: Callable[[Any, int], Any]) -> Case | None:
    """Return the case with a change to one axis of one input, or None where there is no axis."""
    candidates = [i for i, x in enumerate(case.inputs) if x.ndim]
    if not candidates:
        return None
    i = choose.of(candidates)
    s = case.inputs[i].shape
    return _replace_input(case, i, np.resize(case.inputs[i], change(s, choose.integer(0, len(s) - 1))))


def _resize_one_input(case: Case, choose: SeededChoices, change: Callable[[Any], Any]) -> Case | None:
    """Return the case with the shape of one input changed."""
    i = choose.integer(0, len(case.inputs) - 1)
    return _replace_input(case, i, np.resize(case.inputs[i], change(case.inputs[i].shape)))


def _replace_input(case: Case, i: int, x: Array) -> Case:
    """Return the case with another input, and with a cotangent that fits the value if there is one."""
    return _fit_cotangent(case.with_input(i, x))


def _replace_keywords(case: Case, **keywords: Any) -> Case:
    return _fit_cotangent(replace(case, keywords={**case.keywords, **keywords}))


def _fit_cotangent(case: Case) -> Case:
    """Return the case with its cotangent resized to the value, or as it is where the spec raises."""
    try:
        shape = np.shape(case.op.compute_value(*case.inputs, **case.keywords))
    except Exception:
        return case
    return replace(case, cotangent=np.resize(case.cotangent, shape))
