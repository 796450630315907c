"""What is planted in layer_norm is found in an rms_norm that is declared outside of gradspec, as a formula.

The general faults are the same; those of layer_norm's own have their counterparts here.
"""

from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import numpy as np
import pytest

from gradspec import Array, Real, op
from gradspec.backends import Backend
from gradspec.reference import OPS, VJP
from gradspec.reference.misfits import refuse_misfits
from tests.faults import drawn_cases, planted_backends
from tests.faults.detection import detect_fault
from tests.faults.equivalent import EQUIVALENT
from tests.faults.fault import GRADIENT_PROPERTY, PURITY_PROPERTY, VALUE_PROPERTY, Fault, spell_out_name
from tests.faults.general import make_general_faults
from tests.faults.own_reductions import compute_in_float32, sum_sequentially
from tests.faults.registry import faults

SEED = 1
SIGNATURE = "(*b,n),(n)->(*b,n)"
WIDE = frozenset({"float64", "float32"})
OVERWRITTEN = "what is overwritten before the pullback is not noticed"
PARTS = 4
"""Into so many parts the faults are divided, one test each."""


def rms_norm(x: Real, weight: Real, *, eps: float = 1e-6) -> Array:
    return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + eps) * weight


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Declare the op, and forget it after the tests."""
    declared = op(SIGNATURE, eps=[1e-6, 1e-2])(rms_norm)
    yield declared.address
    del OPS[declared.address]
    drawn_cases.clear_cache()


# What layer_norm's own faults are here, each as a whole rule


def scale_by(rstd: Array, x: Array, weight: Array, along: Callable[[Array], Array]) -> VJP:
    """Return the rule for this scale; `along` gives the mean of g times x, which the gradient of x lacks."""
    xhat = x * rstd

    def pull_x(g: Array) -> Array:
        return rstd * (g * weight - xhat * along(g * weight * xhat))

    return xhat * weight, (pull_x, lambda g: np.sum((g * xhat).reshape(-1, weight.size), axis=0))


def mean_of(x: Array) -> Array:
    return np.mean(x, axis=-1, keepdims=True)


def right(x: Array, weight: Array, *, eps: float = 1e-6) -> VJP:
    return scale_by(1 / np.sqrt(mean_of(x * x) + eps), x, weight, mean_of)


def adds_eps_outside_of_the_root(x: Array, weight: Array, *, eps: float = 1e-6) -> VJP:
    return 1 / (np.sqrt(mean_of(x * x)) + eps) * x * weight, right(x, weight, eps=eps)[1]


def corrects_the_mean(x: Array, weight: Array, *, eps: float = 1e-6) -> VJP:
    total = np.sum(x * x, axis=-1, keepdims=True)
    return x / np.sqrt(total / max(1, x.shape[-1] - 1) + eps) * weight, right(x, weight, eps=eps)[1]


def ignores_eps(x: Array, weight: Array, *, eps: float = 1e-6) -> VJP:
    return right(x, weight)


def takes_the_mean_for_a_constant(x: Array, weight: Array, *, eps: float = 1e-6) -> VJP:
    return scale_by(1 / np.sqrt(mean_of(x * x) + eps), x, weight, np.zeros_like)


def halves_the_term_of_the_mean(x: Array, weight: Array, *, eps: float = 1e-6) -> VJP:
    return scale_by(1 / np.sqrt(mean_of(x * x) + eps), x, weight, lambda z: mean_of(z) / 2)


def takes_the_mean_over_all_axes(x: Array, weight: Array, *, eps: float = 1e-6) -> VJP:
    y, pulls = right(x, weight, eps=eps)
    rstd = 1 / np.sqrt(np.mean(x * x) + x.dtype.type(eps)) if x.size else x.dtype.type(1)
    return (x * rstd * weight if x.ndim > 1 else y), pulls


def change_weight(change: Callable[[Array], Array], y_pulls: Any) -> VJP:
    y, (pull_x, _) = y_pulls
    return y, (pull_x, change)


def gives_its_weight_the_gradient_of_a_bias(x: Array, weight: Array, *, eps: float = 1e-6) -> VJP:
    return change_weight(lambda g: np.sum(g.reshape(-1, weight.size), axis=0), right(x, weight, eps=eps))


def reduce_rows(reduce: Callable[..., Array], x: Array, weight: Array, eps: float) -> VJP:
    """Return the rule with another reduction of the rows in the gradient of the weight."""
    y_pulls = right(x, weight, eps=eps)
    xhat = x / np.sqrt(mean_of(x * x) + eps)

    def change(g: Array) -> Array:
        return reduce((g * xhat).reshape(-1, weight.size)).astype(weight.dtype) if g.size else 0 * weight

    return change_weight(change, y_pulls)


def averages_over_the_rows(x: Array, weight: Array, *, eps: float = 1e-6) -> VJP:
    return reduce_rows(partial(np.mean, axis=0), x, weight, eps)


def takes_the_largest_row(x: Array, weight: Array, *, eps: float = 1e-6) -> VJP:
    return reduce_rows(partial(np.max, axis=0), x, weight, eps)


def takes_the_first_row(x: Array, weight: Array, *, eps: float = 1e-6) -> VJP:
    return reduce_rows(lambda rows: rows[0], x, weight, eps)


def adds_up_its_mean_in_sixteen_bits(x: Array, weight: Array, *, eps: float = 1e-6) -> VJP:
    _, pull = compute_in_float32(f"{__name__}:rms_norm", x, weight, eps=eps)
    mean = sum_sequentially(x * x, (-1,)) / x.dtype.type(x.shape[-1])
    wide = x.astype(np.float32) / np.sqrt(mean.astype(np.float32) + eps) * weight
    return wide.astype(x.dtype), pull


OF_THE_VALUE = (adds_eps_outside_of_the_root, corrects_the_mean, ignores_eps, takes_the_mean_over_all_axes)
OF_GRADIENTS = (
    *(takes_the_mean_for_a_constant, halves_the_term_of_the_mean, gives_its_weight_the_gradient_of_a_bias),
    *(averages_over_the_rows, takes_the_largest_row, takes_the_first_row),
)


def plant(rule: Callable[..., VJP], address: str, dtypes: frozenset[str] = WIDE) -> Backend:
    """Return the spec with a rule that refuses what the signature does, as a kernel should."""
    return planted_backends.plant_rule(address, refuse_misfits(rule, SIGNATURE, ("x", "weight")), dtypes)


def make_own_faults(address: str) -> Iterator[Fault]:
    for rule in (*OF_THE_VALUE, *OF_GRADIENTS):
        likely = VALUE_PROPERTY if rule in OF_THE_VALUE else GRADIENT_PROPERTY
        yield Fault(address, "own", spell_out_name(rule), partial(plant, rule, address), likely)
    narrow = partial(plant, adds_up_its_mean_in_sixteen_bits, address, frozenset({"float16"}))
    yield Fault(address, "own", "adds up its mean in 16 bits", narrow, VALUE_PROPERTY)
    unguarded = partial(planted_backends.plant_rule_on_bare_engine, address, right)
    yield Fault(address, "own", OVERWRITTEN, unguarded, PURITY_PROPERTY)


@cache
def make_faults(address: str) -> list[Fault]:
    """Return all faults; a formula notices by itself what is overwritten, a kernel by hand need not."""
    omitted = {OVERWRITTEN, *(name.removeprefix("layer_norm: ") for name in EQUIVALENT)}
    general = (fault for fault in make_general_faults(address) if fault.name not in omitted)
    return [*general, *make_own_faults(address)]


def test_the_general_faults_are_those_of_layer_norm(address: str) -> None:
    """But for those of its bias, and those of broadcasting, which the signature of rms_norm rules out."""
    of_layer_norm = {fault.name for fault in faults().values() if fault.op == "layer_norm"}
    names = {fault.name for fault in make_faults(address)}
    assert len(names & of_layer_norm) > 65
    missing = {name for name in of_layer_norm - names if not name.startswith("layer norm ")}
    words = ("bias", "broadcast", "summed", "first member", "memory of the cotangent")
    assert [name for name in missing if not any(word in name for word in words)] == []


@pytest.mark.rotating
@pytest.mark.parametrize("part", range(PARTS))
def test_what_is_planted_is_found(address: str, part: int) -> None:
    planted = make_faults(address)[part::PARTS]
    assert [repr(fault) for fault in planted if detect_fault(fault, SEED) is None] == []


def test_a_right_kernel_passes(address: str) -> None:
    none = Fault(address, "own", "none", partial(plant, right, address), GRADIENT_PROPERTY)
    assert detect_fault(none, SEED) is None
