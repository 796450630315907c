"""What is wrong gets no time: also where it is wrong in large calls alone, for which there is no judge."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gradspec.backends import Backend, load
from gradspec.reference import OPS, op
from gradspec.reference.domains import Real
from gradspec.timing.calls import make_typical_call
from gradspec.timing.cells import MIN_PLACEMENTS, PAGE_BYTES, NotTimed, Side, TimedCall, widen_if_16_bits
from gradspec.timing.right_results import (
    NotFinite,
    WrongResult,
    compute_exactly,
    make_case,
    require_half_of_the_digits,
    require_right_result,
)
from gradspec.timing.turns import Spread
from tests.helpers.planting import make_backend_of_ops, make_backend_of_rules

BLOCK = 2**12  # elements that a wrong kernel of these tests still gets right


def tanh_rule(spoil: Callable[[Any], Any] = lambda y: y) -> Any:
    """Return a right rule of tanh, but for what `spoil` does to its gradient."""

    def tanh(x: Any) -> Any:
        y = np.tanh(x)
        return y, (lambda g: spoil(g * (1 - y * y)),)

    return tanh


def leave_unwritten(first: int, count: int, block: int = BLOCK) -> Callable[[Any], Any]:
    """Return what leaves so many elements zero, in arrays of more than a block."""

    def spoil(d: Any) -> Any:
        if np.size(d) <= block:
            return d
        flat = np.array(d).ravel()
        flat[first : first + count] = 0
        return flat.reshape(np.shape(d))

    return spoil


def check_digits(backend: Backend, name: str = "tanh", dtype: str = "float32", size: str = "cache") -> None:
    case = make_case(OPS[name], make_typical_call(OPS[name], size), dtype)
    require_half_of_the_digits(backend, case, compute_exactly(case))


@pytest.mark.parametrize(
    "spoil",
    [
        leave_unwritten(BLOCK, 128),
        leave_unwritten(2**14 - 100, 100),
        lambda d: 1.001 * d,
        lambda d: d + np.nan,
    ],
    ids=["a row", "the end", "a factor", "NaN"],
)
def test_what_is_wrong_in_large_calls_alone_gets_no_time(spoil: Callable[[Any], Any]) -> None:
    with pytest.raises(WrongResult, match="gradient of x is off by"):
        check_digits(make_backend_of_rules(tanh=tanh_rule(spoil)))


def test_a_gradient_of_another_shape_gets_no_time() -> None:
    def vjp(fn: Callable[..., Any], *inputs: Any) -> Any:
        value, pullback = load("numpy").vjp(fn, *inputs)
        return value, lambda g: [d[1:] for d in pullback(g)]

    with pytest.raises(WrongResult, match="gradient of x is off by inf"):
        check_digits(replace(load("numpy"), vjp=vjp))


@pytest.mark.parametrize(("name", "dtype"), [("tanh", "float32"), ("argmax", "float32"), ("tanh", "float64")])
def test_what_is_right_passes(name: str, dtype: str) -> None:
    check_digits(load("numpy"), name, dtype)


@pytest.mark.rotating
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("name", ["tanh", "softmax", "layer_norm", "matmul", "sum", "cumulative_sum"])
def test_right_results_of_torch_pass(name: str, dtype: str) -> None:
    """All ops do, except where they overflow; these add up the most, or are lossy."""
    check_digits(load("torch"), name, dtype, "memory")


def test_what_overflows_in_16_bits_is_not_called_wrong() -> None:
    case = make_case(OPS["prod"], make_typical_call(OPS["prod"], "memory"), "float16")
    with pytest.raises(NotFinite, match="not finite in float16"):
        compute_exactly(case)


def test_smaller_calls_are_judged_as_the_properties_judge() -> None:
    case = make_case(OPS["tanh"], make_typical_call(OPS["tanh"], "cache"), "float32")
    require_right_result(load("torch"), case)  # which is lossy there
    with pytest.raises(WrongResult, match="gradient of x at"):
        require_right_result(make_backend_of_rules(tanh=tanh_rule(lambda d: 1.001 * d)), case)


@pytest.mark.usefixtures("restored_registry")
def test_what_overflows_gets_no_time() -> None:
    @op("()->()")
    def twice_exponential(x: Real) -> Any:
        return np.exp(np.exp(np.exp(x * x)))

    case = make_case(twice_exponential, make_typical_call(twice_exponential, "cache"), "float32")
    with pytest.raises(NotFinite, match="the value of the spec has elements that are not finite"):
        compute_exactly(case)
    with pytest.raises(NotTimed, match="at size cache, the value of the spec has elements"):
        TimedCall(twice_exponential, "cache", "float32", [Side("numpy", load("numpy"))])


def test_another_side_that_is_wrong_is_left_out_and_said_to_be() -> None:
    wrong = make_backend_of_rules(tanh=tanh_rule(lambda d: 2 * d))
    sides = [Side("numpy", load("numpy")), Side("spec", None), Side("wrong", wrong)]
    call = TimedCall(OPS["tanh"], "overhead", "float32", sides)
    assert [*call.measure("backward", seconds=0).samples] == ["numpy", "spec"]
    assert call.complaints["wrong"].startswith("at size overhead, the gradient of x")
    with pytest.raises(NotTimed, match="at size overhead, the gradient of x"):
        TimedCall(OPS["tanh"], "overhead", "float32", sides[::-1])


def test_a_kernel_that_is_right_up_to_64_kib_gets_no_time() -> None:
    wrong = make_backend_of_rules(tanh=tanh_rule(leave_unwritten(2**20, 2048, block=2**14)))
    sides = [Side("wrong", wrong)]
    assert TimedCall(OPS["tanh"], "cache", "float32", sides).directions == ["forward", "backward"]
    with pytest.raises(NotTimed, match="at size memory, the gradient of x is off by 2"):
        TimedCall(OPS["tanh"], "memory", "float32", sides)


def test_what_raises_is_told_in_a_line() -> None:
    def tanh(x: Any) -> Any:
        if np.size(x) > 2**14:
            raise MemoryError("no room\nfor it")
        return OPS["tanh"](x)

    backend = make_backend_of_ops({"tanh": tanh})
    with pytest.raises(NotTimed) as raised:
        TimedCall(OPS["tanh"], "memory", "float32", [Side("mine", backend)])
    assert str(raised.value).startswith("at size memory, it raised MemoryError: no room")
    assert "\n" not in str(raised.value)


def slow_down(backend: Backend, name: str) -> Backend:
    """Return the backend with a backward pass that computes four times what it needs once."""

    def vjp(fn: Callable[..., Any], *inputs: Any) -> Any:
        value, pullback = backend.vjp(fn, *inputs)
        return value, lambda g: [pullback(g) for _ in range(4)][-1]

    return replace(backend, name=name, vjp=vjp)


def test_a_slow_backward_pass_has_a_ratio_above_one_and_its_forward_pass_has_not() -> None:
    numpy = load("numpy")
    sides = [Side("slow", slow_down(numpy, "slow")), Side("spec", None), Side("numpy", numpy)]
    call = TimedCall(OPS["tanh"], "cache", "float32", sides)
    forward, backward = (call.measure(direction, seconds=0.1) for direction in call.directions)
    for beside in ("spec", "numpy"):
        assert Spread.of(backward.get_ratios(beside)).median > 2
        assert Spread.of(forward.get_ratios(beside)).median < 2


def test_the_arrays_of_a_side_lie_at_several_places_and_no_two_sides_have_as_many() -> None:
    places: dict[str, set[int]] = {"one": set(), "two": set()}

    def make_side(label: str) -> Side:
        def tanh(x: Any) -> Any:
            if isinstance(x, np.ndarray):  # else it is a tensor, and the backward pass is made ready
                places[label].add(x.ctypes.data)
            return OPS["tanh"](x)

        return Side(label, make_backend_of_ops({"tanh": tanh}, label))

    call = TimedCall(OPS["tanh"], "cache", "float32", [make_side("one"), make_side("two")])
    for seen in places.values():
        seen.clear()
    call.measure("forward", seconds=0.05)
    assert len(places["one"]) == MIN_PLACEMENTS
    assert len(places["two"]) == MIN_PLACEMENTS + 1
    assert all(len({place % PAGE_BYTES for place in seen}) > 3 for seen in places.values())


def test_an_op_without_a_gradient_has_a_forward_pass_alone() -> None:
    call = TimedCall(OPS["argmax"], "overhead", "float32", [Side("torch", load("torch")), Side("spec", None)])
    assert call.directions == ["forward"]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_the_spec_counts_in_float32_beside_16_bit_floats(dtype: str) -> None:
    call = TimedCall(OPS["softmax"], "overhead", dtype, [Side("torch", load("torch")), Side("spec", None)])
    assert call.directions == ["forward", "backward"]
    assert call.case.inputs[0].dtype.itemsize == 2
    assert {x.dtype for x in widen_if_16_bits(call.case).inputs} == {np.dtype(np.float32)}
