"""Signatures with a star: what they draw, what they refuse, and integers that index a dimension."""

from typing import Any

import numpy as np
import pytest

from gradspec.reference import op
from gradspec.reference.calls import Call, IntegerArrayBelow, SeededChoices, SmallestChoices
from gradspec.reference.domains import Integers, Interval, Real, below
from gradspec.reference.rule import VJP
from gradspec.reference.signatures import broadcasts, from_signature, is_elementwise, parse_core_dimensions

SEEDS = range(200)
Array = Any


def draw_shapes(signature: str, seed: int, lengths: tuple[int, ...] = (0, 1, 2, 3)) -> list[Any]:
    return list(from_signature(signature)(SeededChoices(seed, lengths)).shapes)


def test_where_a_name_has_a_star_nothing_broadcasts() -> None:
    assert [broadcasts(s) for s in ("()->()", "(m?,n),(n)->(m?)", "(*b,n),(n)->(*b,n)")] == [
        True,
        True,
        False,
    ]
    assert [is_elementwise(s) for s in ("(),()->()", "(*b),(*b)->(*b)", "(n)->(n)")] == [True, False, False]
    assert parse_core_dimensions("(*b,n),(n)->(*b,n)") == [["n"], ["n"]]


def test_a_star_is_any_number_of_axes_the_same_for_all() -> None:
    ranks = set()
    for seed in SEEDS:
        x, weight, gate = draw_shapes("(*b,n),(n),(*b,n)->(*b,n)", seed)
        assert x == gate
        assert x[-1:] == weight != (0,)
        ranks.add(len(x))
    assert ranks == {1, 2, 3, 4}


def test_two_stars_share_the_rank() -> None:
    drawn = [draw_shapes("(*b,n),(n,*c)->(*b,*c)", seed) for seed in SEEDS]
    assert all(x[-1] == y[0] for x, y in drawn)
    assert max(len(x) + len(y) for x, y in drawn) <= 6
    assert len({(len(x), len(y)) for x, y in drawn}) > 6


def test_the_smallest_call_has_no_axes_for_a_star() -> None:
    assert from_signature("(*b,n),(n)->(*b,n)")(SmallestChoices()) == Call(((1,), (1,)))


def test_an_axis_may_have_a_fixed_length() -> None:
    for seed in SEEDS:
        x, y = draw_shapes("(3),(n,3)->(n,3)", seed)
        assert (x[-1], y[-1]) == (3, 3)
        x, table = draw_shapes("(*b,n,2),(n)->(*b,n,2)", seed)
        assert x[-2:] == (*table, 2)
    assert from_signature("(*b,n,2)->(*b,n)")(SmallestChoices()) == Call(((1, 2),))


def test_an_axis_may_be_as_long_as_a_product() -> None:
    drawn = [draw_shapes("(b, h*r, 2*d), (b, h, d) -> (b, h*r)", seed) for seed in SEEDS]
    groups = {(x[1] // y[1], x[1] % y[1]) for x, y in drawn}
    assert groups == {(1, 0), (2, 0), (3, 0)}
    assert all(x[2] == 2 * y[2] for x, y in drawn)
    assert max(y[1] for _, y in drawn) == 3
    integers = from_signature("(*b,2*n),(*b)->(*b)", domains=(Interval(), Integers("n")))
    x, index = integers(SeededChoices(1)).shapes
    assert isinstance(index, IntegerArrayBelow)
    assert x[-1] == 2 * index.bound  # type: ignore[index]


@pytest.mark.parametrize(
    ("signature", "message"),
    [
        ("(2n)->(n)", r"not a gufunc signature.* products of lengths '\(2\*n\)'"),
        ("(0)->()", "not a gufunc signature"),
        ("(2*n,m?)->(n)", "both stars and question marks"),
        ("(*b,*c)->()", "two names with a star in one argument"),
        ("(*b,n?)->(*b)", "both stars and question marks"),
        ("(b*,n)->(n)", "not a gufunc signature"),
        ("(**b)->()", "not a gufunc signature"),
    ],
)
def test_a_signature_that_would_be_ambiguous_is_refused(signature: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_signature(signature)


# Shapes that do not fit


def scale(x: Real, weight: Real = None) -> Array:
    return x if weight is None else x * weight


def scale_by_hand(x: Real, weight: Real = None) -> VJP:
    return scale(x, weight), (lambda g: g * weight, lambda g: g * x)


def make_ones(shapes: Any) -> list[Any]:
    return [np.ones(shape) for shape in shapes]


@pytest.mark.usefixtures("restored_registry")
@pytest.mark.parametrize("function", [scale, scale_by_hand])
def test_shapes_that_do_not_fit_are_refused(function: Any) -> None:
    declared: Any = op("(*b,n),(n)->(*b,n)")(function)
    assert not declared.broadcasts
    assert not declared.elementwise
    fitting: list[tuple[Any, Any]] = [((2, 3), (3,)), ((3,), (3,)), ((0, 2, 1), (1,))]
    for shapes in fitting:
        x, weight = make_ones(shapes)
        assert declared(x, weight).shape == x.shape
        assert declared.rule(x, weight)[0].shape == x.shape
    for shapes in [((2, 3), (1,)), ((2, 3), ()), ((2, 3), (2, 3)), ((2, 1), (3,)), ((), (1,))]:
        x, weight = make_ones(shapes)
        for call in (declared, declared.rule, declared.compute_value):
            with pytest.raises(ValueError, match=rf"{function.__name__}: (x|weight) has shape .*broadcasts"):
                call(x, weight)
    assert declared(np.ones((2, 3))).shape == (2, 3)


@pytest.mark.usefixtures("restored_registry")
def test_shapes_that_do_not_fit_lengths_or_products_are_refused() -> None:
    def rotate(x: Real, table: Real) -> Array:
        return np.reshape(x, (*x.shape[:-1], 2, -1)) * table[:, None]

    def repeat(x: Real, y: Real) -> Array:
        return x * np.repeat(y, x.shape[0] // y.shape[0], axis=0)

    def square(x: Real, y: Real) -> Array:
        return x + np.sum(y)

    declared: Any = op("(*b,s,2*n),(s,n)->(*b,s,2,n)")(rotate)
    grouped: Any = op("(h*r,d),(h,d)->(h*r,d)")(repeat)
    fixed: Any = op("(*b,2),(n*n)->(*b,2)")(square)
    calls: Any
    for o, calls in (
        (declared, [((3, 4), (3, 2)), ((5, 3, 4), (3, 2))]),
        (grouped, [((6, 4), (3, 4)), ((3, 1), (3, 1)), ((0, 2), (3, 2))]),
        (fixed, [((2,), (9,)), ((4, 2), (1,))]),
    ):
        for shapes in calls:
            assert o(*make_ones(shapes)).size == np.prod(shapes[0])
    for o, calls in (
        (declared, [((3, 5), (3, 2)), ((3, 4), (3, 1)), ((3, 4), (1, 2)), ((4,), (3, 2)), ((3, 4), (2,))]),
        (grouped, [((4, 4), (3, 4)), ((2, 4), (0, 4))]),
        (fixed, [((3,), (9,)), ((1,), (9,))]),
    ):
        for shapes in calls:
            with pytest.raises(ValueError, match=rf"{o.name}: .* has shape .*broadcasts"):
                o(*make_ones(shapes))


@pytest.mark.usefixtures("restored_registry")
def test_given_as_shapes_a_signature_broadcasts_nothing_without_a_star_either() -> None:
    (usual,) = (lambda x, weight: weight * x,)
    declared: Any = op(shapes="(m,n),(n)->(m,n)", also=[usual])(scale_both)
    assert not declared.broadcasts
    drawn = [declared.draw_call(SeededChoices(seed)).shapes for seed in SEEDS]
    assert {(len(x), len(y)) for x, y in drawn} == {(2, 1)}
    for o in (declared, *declared.usual_forms):
        assert o(*make_ones([(2, 3), (3,)])).shape == (2, 3)
        with pytest.raises(ValueError, match=r"weight has shape \(1,\).*nothing broadcasts"):
            o(*make_ones([(2, 3), (1,)]))
    both: Any = {"cases": "(n)->(n)", "shapes": "(n)->(n)"}
    given: Any
    for given in ({}, both):
        with pytest.raises(TypeError, match=r"either the cases are given.* or shapes="):
            op(**given)


def scale_both(x: Real, weight: Real) -> Array:
    return x * weight


@pytest.mark.usefixtures("restored_registry")
def test_usual_formulas_refuse_the_same() -> None:
    def other(x: Real, weight: Real = None) -> Array:
        return x if weight is None else weight * x

    (form,) = op("(*b,n),(n)->(*b,n)", also=(other,))(scale).usual_forms
    with pytest.raises(ValueError, match="weight has shape"):
        form(np.ones((2, 3)), np.ones(1))


# Integers


def test_integers_index_a_dimension() -> None:
    domains = (Interval(), Integers("v", negative=True, spare=-100))
    drawn = from_signature("(v,d),(*b)->(*b,d)", domains=domains)
    for seed in SEEDS:
        shapes: Any = drawn(SeededChoices(seed)).shapes
        (v, _), index = shapes
        assert v > 0
        assert (index.bound, index.low, index.spare) == (v, -v, -100)
    with pytest.raises(ValueError, match=r"\['w'\].*does not name"):
        from_signature("(v,d),(*b)->(*b,d)", domains=(Interval(), Integers("w")))


@pytest.mark.usefixtures("restored_registry")
def test_an_op_with_integers_of_a_range() -> None:
    def embedding(weight: Real, index: below("v", negative=True)) -> Array:  # type: ignore[valid-type]
        return weight[index]

    declared: Any = op("(v,d),(*b)->(*b,d)")(embedding)
    assert declared.differentiable_arguments(2) == (0,)
    _, pull = declared.rule(np.ones((2, 1)), np.array([0, -1, 1]))
    assert pull(np.ones((3, 1)))[0].tolist() == [[1], [2]]


def pick_many(described: IntegerArrayBelow) -> Array:
    rng = np.random.default_rng(0)
    return np.array([described.pick(rng.integers(0, 256, described.shape)) for _ in range(300)])


def test_picked_integers_are_all_of_a_range() -> None:
    assert set(pick_many(IntegerArrayBelow((2, 2), 3)).ravel()) == {0, 1, 2}
    assert set(pick_many(IntegerArrayBelow((2,), 3, low=-3)).ravel()) == {-3, -2, -1, 0, 1, 2}
    assert set(pick_many(IntegerArrayBelow((2,), 2, spare=-100)).ravel()) == {0, 1, -100}
    assert set(pick_many(IntegerArrayBelow((2,), 1, low=-1, spare=7)).ravel()) == {0, -1, 7}
    assert IntegerArrayBelow((2,), 3, low=-3, spare=9).pick(np.zeros(2)).tolist() == [0, 0]
    assert IntegerArrayBelow((0,), 0).pick(np.zeros(0)).shape == (0,)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_distinct_integers_recur_along_no_axis(axis: int) -> None:
    described = IntegerArrayBelow((2, 3), 4, distinct_along=axis)
    picked = pick_many(described)
    for x in picked:
        assert all(len(set(row)) == len(row) for row in np.moveaxis(x, axis, -1))
    assert len(np.unique(picked.reshape(len(picked), -1), axis=0)) > 20
    assert set(picked.ravel()) == {0, 1, 2, 3}
    first = np.moveaxis(described.pick(np.zeros((2, 3))), axis, -1)
    assert np.all(first == np.arange(first.shape[-1]))
    both = pick_many(IntegerArrayBelow((2,), 2, low=-2, distinct_along=0))
    assert set(both.ravel()) == {-2, -1, 0, 1}
    assert np.all(np.sort(both % 2, axis=-1) == [0, 1])


def test_more_distinct_integers_than_there_are_is_an_error() -> None:
    with pytest.raises(ValueError, match="no 3 distinct"):
        IntegerArrayBelow((3,), 2, distinct_along=0)
    for low in (1, -3):
        with pytest.raises(ValueError, match="low must be from -2 to 0"):
            IntegerArrayBelow((3,), 2, low=low)
