"""The law of first contact catches faults of adapters, tells them as theirs, and passes what is right."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gradspec.backends import Backend, load
from gradspec.properties.judging.attempt import judge_case
from gradspec.properties.judging.judge import Judgement
from gradspec.properties.judging.process_server import CrashOrTimeout
from gradspec.properties.laws.first_contact import (
    SUBJECTS,
    FirstContact,
    arrays_and_gradients_pass_the_adapter,
    stops_the_rest,
)
from gradspec.reference import OPS, VJP, record
from tests.faults.engines import make_engine, pull_by_recursion, pull_newest_first
from tests.helpers.planting import make_backend_of_ops

RIGHT = load("numpy")
Array = Any
Vjp = Callable[..., Any]


def judge_adapter(backend: Backend, dtype: str = "float64") -> tuple[FirstContact, Judgement]:
    """Return the first contact that fails, or else the last one, with its judgement."""
    contacts = [FirstContact(dtype, subject) for subject in SUBJECTS]
    judged = [(c, judge_case(arrays_and_gradients_pass_the_adapter, backend, c)) for c in contacts]
    return next((pair for pair in judged if pair[1].verdict == "disagree"), judged[-1])


# from_numpy and to_numpy


def has_negative_strides(x: Array) -> bool:
    return any(stride < 0 for stride in x.strides)


def narrow_to_float32(x: Array) -> Array:
    return x.astype(np.float32) if x.dtype == np.float64 else x


def pass_through_float32(x: Array) -> Array:
    return x.astype(np.float32).astype(x.dtype) if x.dtype == np.float64 else x


def make_labels_int32(x: Array) -> Array:
    return x.astype(np.int32) if x.dtype == np.int64 else x


def pass_labels_through_int32(x: Array) -> Array:
    return x.astype(np.int32).astype(np.int64) if x.dtype == np.int64 else x


def make_masks_uint8(x: Array) -> Array:
    return x.astype(np.uint8) if x.dtype == np.bool_ else x


def give_an_axis_to_what_has_none(x: Array) -> Array:
    return np.atleast_1d(x)


def drop_axes_of_what_is_empty(x: Array) -> Array:
    return x if x.size else x.reshape(0)


def read_memory_in_order(x: Array) -> Array:
    return x.ravel(order="K").reshape(x.shape)


def read_forwards(x: Array) -> Array:
    return np.flip(x, tuple(i for i, s in enumerate(x.strides) if s < 0)) if has_negative_strides(x) else x


def read_beyond_what_is_expanded(x: Array) -> Array:
    return np.resize([*x[0], 7], x.shape) if x.size and 0 in x.strides else x


def clear_the_sign_of_zero(x: Array) -> Array:
    return x + 0 if x.dtype.kind == "f" else x


def replace_nan(x: Array) -> Array:
    return np.where(np.isnan(x), 0, x).astype(x.dtype) if x.dtype.kind == "f" else x


def refuse_negative_strides(x: Array) -> Array:
    if has_negative_strides(x):
        raise ValueError("negative strides are not supported")
    return x


def copy_what_is_not_contiguous(x: Array) -> Array:
    """What an adapter does before a library that has no negative strides; one element is left with them."""
    return refuse_negative_strides(np.ascontiguousarray(x) if x.ndim else x)


def refuse_one_element(x: Array) -> Array:
    if x.shape == (1,):
        raise ValueError("one element")
    return x


def refuse_what_is_read_only(x: Array) -> Array:
    if not x.flags.writeable:
        raise TypeError("the array is not writeable")
    return x


def refuse_what_is_empty(x: Array) -> Array:
    if not x.size:
        raise ValueError("no elements")
    return x


WRONG_CONVERSIONS: dict[Callable[[Array], Array], str] = {
    narrow_to_float32: "from_numpy or to_numpy turns float64 into float32",
    pass_through_float32: "from_numpy or to_numpy turns a float64 array from",
    make_labels_int32: "from_numpy or to_numpy turns int64 into int32",
    pass_labels_through_int32: "from_numpy or to_numpy turns a int64 array from",
    make_masks_uint8: "from_numpy or to_numpy turns bool into uint8",
    give_an_axis_to_what_has_none: "turns the shape of a float64 array without axes from () into (1,)",
    drop_axes_of_what_is_empty: "turns the shape of a float64 array without elements from (0, 3) into (0,)",
    read_memory_in_order: "turns a float64 array in Fortran order from",
    read_forwards: "turns a float64 array with negative strides from",
    read_beyond_what_is_expanded: "turns a float64 array with zero strides from",
    clear_the_sign_of_zero: "turns a float64 array from",
    replace_nan: "turns a float64 array from",
    refuse_negative_strides: "from_numpy of a float64 array with negative strides raised ValueError",
    copy_what_is_not_contiguous: (
        "from_numpy of a float64 array of one element with negative strides raised ValueError"
    ),
    refuse_one_element: "from_numpy of a float64 array of one element raised ValueError",
    refuse_what_is_read_only: "raised TypeError: the array is not writeable",
    refuse_what_is_empty: "from_numpy of a float64 array without elements raised ValueError",
}


@pytest.mark.parametrize("convert", WRONG_CONVERSIONS)
def test_a_wrong_conversion_is_told_as_the_adapters(convert: Callable[[Array], Array]) -> None:
    _, judgement = judge_adapter(replace(RIGHT, from_numpy=convert))
    assert judgement.reason.startswith("the adapter: ")
    assert WRONG_CONVERSIONS[convert] in judgement.reason.split("\n")[0]


def test_what_to_numpy_raises_is_told_as_the_adapters() -> None:
    def to_numpy(x: Array) -> Array:
        if not x.ndim:
            raise ValueError("a number")
        return np.asarray(x)

    _, judgement = judge_adapter(replace(RIGHT, to_numpy=to_numpy))
    assert judgement.reason.startswith("the adapter: to_numpy of a float64 array without axes")


# vjp


def change_pullback(change: Callable[[Callable[[Array], Any], Array], Any]) -> Vjp:
    """Return the spec's vjp with a pullback that `change` calls."""

    def vjp(fn: Any, *inputs: Array) -> Any:
        value, pullback = RIGHT.vjp(fn, *inputs)
        return value, lambda g: change(pullback, g)

    return vjp


def make_spent_vjp(then: Callable[[Any], Any]) -> Vjp:
    """Return the spec's vjp; from the second call on a pullback gives what `then` makes of the gradients."""

    def vjp(fn: Any, *inputs: Array) -> Any:
        value, pullback = RIGHT.vjp(fn, *inputs)
        calls: list[Array] = []

        def pull(g: Array) -> Any:
            calls.append(g)
            return pullback(g) if len(calls) == 1 else then(pullback(g))

        return value, pull

    return vjp


def raise_that_the_graph_is_gone(_: Any) -> Any:
    raise RuntimeError("the graph was freed")


WRONG_VJPS: dict[str, tuple[Vjp, str]] = {
    "the first gradient alone": (
        change_pullback(lambda pull, g: pull(g)[:1]),
        "vjp: the pullback returned",
    ),
    "a gradient in place of several": (
        change_pullback(lambda pull, g: pull(g)[0]),
        "vjp: the pullback returned",
    ),
    "nothing": (change_pullback(lambda pull, g: None), "vjp: the pullback returned None"),
    "flat gradients": (
        change_pullback(lambda pull, g: [d.reshape(-1) for d in pull(g)]),
        "vjp: a gradient has shape",
    ),
    "gradients of the shape of the cotangent": (
        change_pullback(lambda pull, g: [np.zeros_like(g) for d in pull(g)]),
        "vjp: a gradient has shape",
    ),
    "narrow gradients": (
        change_pullback(lambda pull, g: [d.astype(np.float32) for d in pull(g)]),
        "vjp: a gradient has dtype float32, but its input float64",
    ),
    "none the second time": (
        make_spent_vjp(lambda gradients: [0 * d for d in gradients]),
        "vjp: the pullback gives",
    ),
    "twice as much the second time": (
        make_spent_vjp(lambda gradients: [2 * d for d in gradients]),
        "vjp: the pullback gives",
    ),
    "an exception the second time": (
        make_spent_vjp(raise_that_the_graph_is_gone),
        "vjp: the pullback, called again, raised RuntimeError: the graph was freed",
    ),
    "the value alone": (lambda fn, *xs: RIGHT.vjp(fn, *xs)[0], "vjp does not return a value and a pullback"),
    "gradients in place of a pullback": (
        lambda fn, *xs: (RIGHT.vjp(fn, *xs)[0], [*xs]),
        "vjp does not return a value and a pullback",
    ),
}


@pytest.mark.parametrize("name", WRONG_VJPS)
def test_a_wrong_vjp_is_told_as_the_adapters(name: str) -> None:
    vjp, words = WRONG_VJPS[name]
    contact, judgement = judge_adapter(replace(RIGHT, vjp=vjp))
    assert contact.subject == "gradients"
    assert judgement.reason.startswith("the adapter: vjp")
    assert words in judgement.reason.split("\n")[0]


# The class of arrays


class Tensor:
    """An array of a library that takes NumPy's arrays, too, and gives its own."""

    def __init__(self, array: Array) -> None:
        self.array = array


def take_array(x: Any) -> Array:
    return x.array if isinstance(x, Tensor) else x


def make_vjp_of_tensors(wrap: Callable[[Any], Any], wrap_gradient: Callable[[Any], Any]) -> Vjp:
    """Return the spec's vjp through ops that give tensors; it gives what it is told to make of arrays."""

    def vjp(fn: Any, *inputs: Any) -> Any:
        def unwrapped(*xs: Any) -> Any:
            return take_array(fn(*xs))

        value, pullback = RIGHT.vjp(unwrapped, *map(take_array, inputs))
        return wrap(value), lambda g: [wrap_gradient(np.asarray(d)) for d in pullback(take_array(g))]

    return vjp


def give_record(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Return an op that gives a tensor outside of the spec's vjp, and within it what that records."""

    def op(*xs: Any, **keywords: Any) -> Any:
        value = fn(*map(take_array, xs), **keywords)
        return Tensor(value) if isinstance(value, np.ndarray | np.generic) else value

    return op


TENSOR_OPS = {name: give_record(OPS[name].apply) for name in ("multiply", "add", "exp")}


@pytest.mark.parametrize(
    ("from_numpy", "value", "gradient", "words"),
    [
        (
            np.array,
            np.asarray,
            np.asarray,
            (
                "the adapter: from_numpy returns numpy.ndarray, but the ops return tests.Tensor: "
                "let from_numpy return what the ops take and return"
            ),
        ),
        (Tensor, np.asarray, Tensor, "the value that vjp returns is numpy.ndarray"),
        (Tensor, Tensor, np.asarray, "a gradient that the pullback returns is numpy.ndarray"),
        (Tensor, Tensor, Tensor, ""),
    ],
)
def test_results_of_another_class_are_the_adapters(
    from_numpy: Any, value: Any, gradient: Any, words: str
) -> None:
    vjp = make_vjp_of_tensors(value, gradient)
    backend = Backend("tensors", TENSOR_OPS, vjp, from_numpy, lambda x: np.asarray(take_array(x)))
    contact, judgement = judge_adapter(backend)
    assert words in judgement.reason
    assert (judgement.verdict == "disagree") == bool(words)
    assert not words or stops_the_rest(contact, judgement)


def test_a_result_of_another_class_of_one_op_is_not_the_adapters() -> None:
    ops = {**make_backend_of_ops({"add": OPS["add"].apply, "exp": OPS["exp"].apply}).ops}
    ops["multiply"] = give_record(OPS["multiply"].apply)
    backend = replace(RIGHT, ops=ops, to_numpy=lambda x: np.asarray(take_array(x)))
    assert judge_adapter(backend)[1].verdict == "agree"


def tanh_of_narrow_gradients(x: Array) -> VJP:
    y, (pull,) = OPS["tanh"].rule(x)  # type: ignore[misc]
    return y, (lambda g: pull(g).astype(np.float32),)  # type: ignore[misc]


@pytest.mark.parametrize("others", [(), ("multiply",), ("multiply", "exp", "sum")])
def test_what_is_wrong_with_one_op_is_not_the_adapters(others: tuple[str, ...]) -> None:
    ops = {"tanh": record(tanh_of_narrow_gradients), **{name: OPS[name].apply for name in others}}
    assert judge_adapter(make_backend_of_ops(ops))[1].verdict == "agree"


def test_what_an_op_declines_is_not_the_adapters() -> None:
    def decline(*_: Any, **__: Any) -> Any:
        raise NotImplementedError

    assert judge_adapter(make_backend_of_ops(dict.fromkeys(OPS, decline)))[1].verdict == "agree"


@pytest.mark.parametrize("name", ["numpy", "torch"])
def test_libraries_pass(name: str) -> None:
    backend = load(name)
    for dtype in sorted(backend.dtypes):
        assert judge_adapter(backend, dtype)[1].reason == ""


@pytest.mark.parametrize("engine", [pull_newest_first, pull_by_recursion])
def test_an_engine_of_another_kind_passes(engine: Any) -> None:
    assert judge_adapter(make_engine(engine))[1].reason == ""


@pytest.mark.parametrize("op", ["layer_norm", "cross_entropy", "concat", "argmax", "where"])
def test_a_backend_of_one_op_passes(op: str) -> None:
    assert judge_adapter(make_backend_of_ops({op: OPS[op].apply}))[1].reason == ""


# What is tried all the same


@pytest.mark.parametrize(
    ("change", "stops"),
    [
        ({"from_numpy": narrow_to_float32}, True),
        ({"from_numpy": refuse_what_is_empty}, True),
        ({"from_numpy": read_forwards}, True),
        ({"from_numpy": refuse_negative_strides}, False),
        ({"from_numpy": make_labels_int32}, False),
        ({"vjp": WRONG_VJPS["narrow gradients"][0]}, True),
        ({"vjp": WRONG_VJPS["an exception the second time"][0]}, False),
    ],
)
def test_what_every_op_would_meet_silently_stops_the_rest(change: dict[str, Any], stops: bool) -> None:
    contact, judgement = judge_adapter(replace(RIGHT, **change))
    assert judgement.verdict == "disagree"
    assert stops_the_rest(contact, judgement) == stops


def test_what_ends_its_process_may_be_one_ops_alone_unless_no_array_is_taken() -> None:
    crash = CrashOrTimeout("disagree", "exited with status 3")
    assert not stops_the_rest(FirstContact("float64", "gradients"), crash)
    assert not stops_the_rest(FirstContact("float64", "layouts"), crash)
    assert stops_the_rest(FirstContact("float64", "arrays"), crash)
