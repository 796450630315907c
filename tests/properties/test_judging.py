"""The judge: what agrees, what disagrees, and what is undecidable."""

from typing import Any

import numpy as np
import pytest

from gradspec.properties.cases.case import Case, dtype_of
from gradspec.properties.cases.evaluate import run_spec
from gradspec.properties.judging.judge import JITTERED_COPY_COUNTS, Judge
from gradspec.reference.rule import Array

RNG = np.random.default_rng(0)


def make_case(op: str, dtype: str, *inputs: Any, cotangent: Any, **keywords: Any) -> Case:
    arrays = [x if np.asarray(x).dtype.kind == "i" else np.asarray(x).astype(dtype_of(dtype)) for x in inputs]
    return Case.of(op, dtype, arrays, keywords, np.asarray(cotangent).astype(dtype_of(dtype)))


def make_layer_norm_case(dtype: str, scale: float, rng: np.random.Generator = RNG) -> Case:
    x, g = rng.normal(size=(2, 4, 33)) * [[[scale]], [[1]]]
    return make_case("layer_norm", dtype, x, np.ones(33), np.zeros(33), cotangent=g)


CASES = {
    "a layer whose squares sum to more than float16 holds": make_layer_norm_case("float16", 100),
    "a layer in bfloat16": make_layer_norm_case("bfloat16", 100),
    "a layer in float32": make_layer_norm_case("float32", 1e-3),
    "products": make_case(
        "matmul", "float16", *RNG.normal(size=(2, 9, 9)), cotangent=RNG.normal(size=(9, 9))
    ),
    "powers": make_case(
        "pow", "float64", RNG.random(9) + 0.5, RNG.normal(size=9) * 9, cotangent=RNG.normal(size=9)
    ),
    "classes": make_case("cross_entropy", "float32", RNG.normal(size=(5, 3)), np.arange(5) % 3, cotangent=1),
}


@pytest.fixture(params=list(CASES.values()), ids=list(CASES))
def judge(request: pytest.FixtureRequest) -> Judge:
    return Judge(request.param)


def compute_right_gradients(judge: Judge) -> dict[str, Array]:
    """Return right gradients: those of the spec in higher precision, rounded once."""
    dtype = dtype_of(judge.case.dtype)
    return {name: d.astype(dtype) for name, d in judge.exact.gradients.items()}


def test_what_is_right_but_for_one_rounding_agrees(judge: Judge) -> None:
    judgement = judge.judge_gradients(compute_right_gradients(judge))
    assert (judgement.verdict, judgement.informative) == ("agree", True)


def test_zeros_are_found_wrong_whatever_the_noise(judge: Judge) -> None:
    for name, d in compute_right_gradients(judge).items():
        assert not np.any(d) or judge.judge_gradient(name, np.zeros_like(d)).verdict == "disagree"


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_one_element_that_is_not_finite_is_found_wrong(judge: Judge, wrong: float) -> None:
    if judge.case.dtype == "float16" and judge.case.op.name == "layer_norm":
        pytest.skip("another order of operations might overflow")
    for name, d in compute_right_gradients(judge).items():
        d[(-1,) * d.ndim] = wrong
        assert judge.judge_gradient(name, d).verdict == "disagree"


def test_a_percent_off_is_found_wrong_where_the_dtype_tells_it_apart(judge: Judge) -> None:
    if dtype_of(judge.case.dtype).itemsize > 2:
        for name, d in compute_right_gradients(judge).items():
            assert judge.judge_gradient(name, (d * 1.01).astype(d.dtype)).verdict == "disagree"


def test_gradients_of_another_shape_are_found_wrong(judge: Judge) -> None:
    for name, d in compute_right_gradients(judge).items():
        assert "has shape" in judge.judge_gradient(name, d[..., None]).reason


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("scale", [1e-2, 1, 100])
def test_statistics_saved_in_16_bits_are_no_fault(dtype: str, scale: float) -> None:
    """Some libraries save them so for the backward pass and compute the rest in float32."""
    informative = 0
    for seed in range(20):
        c = make_layer_norm_case(dtype, scale, np.random.default_rng(seed))
        x, g = (a.astype(np.float32) for a in (c.inputs[0], c.cotangent))
        mean = np.mean(x, axis=1, keepdims=True)
        rstd = 1 / np.sqrt(np.var(x, axis=1, keepdims=True) + np.float32(1e-5))
        mean, rstd = (a.astype(dtype_of(dtype)).astype(np.float32) for a in (mean, rstd))
        xhat = (x - mean) * rstd
        along = np.mean(g * xhat, axis=1, keepdims=True)
        dx = rstd * (g - np.mean(g, axis=1, keepdims=True) - xhat * along)
        judgement = Judge(c).judge_gradient("x", dx.astype(dtype_of(dtype)))
        assert judgement.verdict != "disagree", judgement.reason
        informative += judgement.informative
    if scale == 100:  # smaller numbers have squares so small that float16 may lose them
        assert informative > 15


def test_where_the_exact_result_overflows_nothing_is_said() -> None:
    judge = Judge(make_case("exp", "float16", [20.0], cotangent=[1.0]))
    for value in (np.inf, 65504, 0):
        assert judge.judge_value(np.array([value], np.float16)).verdict == "undecidable"


def test_where_everything_cancels_nothing_is_said_of_small_errors() -> None:
    """Of numbers near 1,000 with their mean subtracted, float16 leaves a variance of a few units at best."""
    x = 1000 + np.array([0.0, 0.5, 0.0, 0.5])
    judge = Judge(make_case("var", "float16", x, cotangent=1.0))
    exact = run_spec(judge.case).gradients["x"]
    assert judge.judge_gradient("x", exact).verdict in ("agree", "undecidable")
    assert judge.judge_gradient("x", exact + np.float16(1000)).verdict == "disagree"


def test_what_the_plain_run_explains_needs_no_jittered_copies() -> None:
    """As a library's own result often is, this is what the same formula gives in NumPy."""
    case = CASES["a layer in float32"]
    judge = Judge(case)
    assert judge.judge_gradients(run_spec(case).gradients).verdict == "agree"
    assert len(judge.formulas.sampler._samples) == 1
    judge.judge_gradient("x", 2 * run_spec(case).gradients["x"])
    assert len(judge.formulas.sampler._samples) == 1 + JITTERED_COPY_COUNTS[-1]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_sum_taken_one_by_one_agrees_however_alike_its_terms_are(dtype: str) -> None:
    """A sum of few different numbers is rounded in one direction for long."""
    for n in (300, 1200, 5000, 20_000):
        for seed in range(6):
            x = np.random.default_rng(seed).choice([0.25, 0.5, 0.75, 1], n).astype(dtype)
            e = np.exp(x - x.dtype.type(1))
            judge = Judge(make_case("softmax", dtype, x, cotangent=np.ones(n), axis=0))
            assert judge.judge_value(e / np.add.accumulate(e)[-1]).verdict == "agree"


def test_a_result_that_is_clearly_lossy_needs_few_copies_of_the_stable_formula() -> None:
    judge = Judge(make_case("tanh", "float64", [20.0], cotangent=[1]))
    assert judge.judge_gradient("x", np.zeros(1)).verdict == "lossy"
    assert len(judge.formulas.sampler._samples) == 1 + JITTERED_COPY_COUNTS[-2]


# Overflow in float16


@pytest.mark.parametrize("wrong", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize(
    ("op", "inputs"),
    [
        ("mean", [[100] * 3]),
        ("mean", [[100] * 1000]),
        ("mean", [[4e4, 4e4]]),
        ("var", [[200, -200]]),
        ("multiply", [20, 20]),
        ("exp", [6]),
    ],
)
def test_a_number_far_from_overflow_is_no_infinity_in_float16(
    op: str, inputs: list[Any], wrong: float
) -> None:
    judge = Judge(Case.of(op, "float16", inputs, {}, 1))
    assert judge.judge_value(np.float16(judge.exact.value)).verdict == "agree"
    assert judge.judge_value(np.float16(wrong)).verdict == "disagree"


@pytest.mark.parametrize(
    ("op", "inputs"), [("sum", [[200] * 300]), ("prod", [[200, 200]]), ("multiply", [200, 200])]
)
def test_an_infinity_on_the_brink_of_overflow_tells_nothing(op: str, inputs: list[Any]) -> None:
    judge = Judge(Case.of(op, "float16", inputs, {}, 1))
    assert judge.judge_value(np.float16(np.inf)).verdict == "undecidable"
