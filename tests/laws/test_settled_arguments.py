"""Arguments that constrain each other: where an op is not defined nothing is drawn, and nothing is wrong."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradspec.backends import Backend
from gradspec.properties.cases.case import Case
from gradspec.properties.cases.rare_kinds import RARE_KINDS, iterate_rare_cases
from gradspec.properties.drawing.extreme import extreme_cases
from gradspec.properties.drawing.kinked import kinked_cases
from gradspec.properties.drawing.programs import programs
from gradspec.properties.drawing.strategies import cases
from gradspec.properties.judging.attempt import judge_case
from gradspec.properties.laws.gradient import every_gradient_agrees
from gradspec.properties.laws.kinks import gradient_at_kinks_is_a_legal_subgradient
from gradspec.properties.laws.programs import every_gradient_of_a_program_agrees
from gradspec.properties.laws.purity import calls_leave_no_trace
from gradspec.properties.laws.value import value_agrees
from gradspec.reference import OPS, VJP
from gradspec.reference.arrays import unbroadcast
from tests.helpers.planting import GENERATE_ONLY_SETTINGS, make_backend_of_rules

CLIP = OPS["clip"]
CROSSED = Case.of("clip", "float64", [[0.5, 3.0], [1.0, 1.0], [-1.0, 2.0]], {}, [1.0, 1.0])
ORDERED = replace(CROSSED, inputs=(CROSSED.inputs[0], *np.sort(CROSSED.inputs[1:], axis=0)))


def lower_bound_wins(x: Any, min: Any, max: Any = None) -> VJP:  # noqa: A002
    capped = x if max is None else np.minimum(x, max)
    return np.maximum(capped, min), CLIP.rule(x, min, max)[1]


def refuse_wrong_order(x: Any, min: Any, max: Any = None) -> VJP:  # noqa: A002
    if max is not None and np.any(min > max):
        raise ValueError("min is larger than max")
    return CLIP.rule(x, min, max)


def double_the_gradient(x: Any, min: Any, max: Any = None) -> VJP:  # noqa: A002
    y, pulls = CLIP.rule(x, min, max)
    return y, tuple(pull and (lambda g, pull=pull: 2 * pull(g)) for pull in pulls)  # type: ignore[union-attr]


def write_to_the_cotangent(x: Any, min: Any, max: Any = None) -> VJP:  # noqa: A002
    y, pulls = CLIP.rule(x, min, max)
    return y, tuple(pull and (lambda g, pull=pull: pull(np.negative(g, out=g))) for pull in pulls)  # type: ignore[union-attr]


@pytest.mark.parametrize("rule", [lower_bound_wins, refuse_wrong_order])
def test_any_answer_will_do_where_the_standard_has_none(rule: Any) -> None:
    backend = make_backend_of_rules(clip=rule)
    assert judge_case(value_agrees, backend, CROSSED).verdict == "undecidable"
    assert judge_case(value_agrees, backend, ORDERED).verdict == "agree"


def test_the_spec_itself_agrees_there() -> None:
    assert judge_case(value_agrees, make_backend_of_rules(clip=CLIP.rule), CROSSED).verdict == "agree"


EQUAL_BOUNDS = Case.of(
    "clip", "float64", [[2.0, 3.0], [[1.0, 0.0], [1.0, 1.0]], [1.0, 2.0]], {}, np.ones((2, 2))
)


def make_clip_that_pays(share_of_min: float, share_of_max: float) -> Any:
    def clip(x: Any, min: Any, max: Any) -> VJP:  # noqa: A002
        y, pulls = CLIP.rule(x, min, max)
        shares = np.where(
            np.broadcast_to(min == max, y.shape), [[[share_of_min]], [[share_of_max]]], [[[0.0]], [[1.0]]]
        )
        return y, (pulls[0], lambda g: g * shares[0], lambda g: unbroadcast(g * shares[1], max.shape))  # type: ignore[index]

    return clip


@pytest.mark.parametrize(
    ("shares", "verdict"),
    [((0, 1), "agree"), ((0.5, 0.5), "agree"), ((1, 0), "agree"), ((0, 0), "disagree"), ((1, 1), "disagree")],
)
def test_equal_bounds_may_share_their_gradient(shares: tuple[float, float], verdict: str) -> None:
    """Beyond them lie bounds in the wrong order, for which either may win."""
    backend = make_backend_of_rules(clip=make_clip_that_pays(*shares))
    assert judge_case(gradient_at_kinks_is_a_legal_subgradient, backend, EQUAL_BOUNDS).verdict == verdict


def test_what_is_defined_is_judged_as_ever() -> None:
    backend = make_backend_of_rules(clip=double_the_gradient)
    assert judge_case(every_gradient_agrees, backend, ORDERED).verdict == "disagree"


def test_memory_is_never_left_open() -> None:
    assert (
        judge_case(calls_leave_no_trace, make_backend_of_rules(clip=write_to_the_cotangent), CROSSED).verdict
        == "disagree"
    )


@pytest.mark.parametrize(
    ("low", "high"), [((4,), (3, 1)), ((), (2, 3)), ((3, 1), (1, 4)), ((2,), (2,)), ((), ())]
)
@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_bounds_of_any_shapes_are_ordered(low: tuple[int, ...], high: tuple[int, ...], dtype: str) -> None:
    rng = np.random.default_rng(0)
    shape = np.broadcast_shapes(low, high)
    for _ in range(20):
        numbers = [rng.integers(-9, 9, s).astype(np.float64) for s in (shape, low, high)]
        settled = Case.of("clip", dtype, numbers, {}, np.zeros(shape)).settle()
        assert [x.shape for x in settled.inputs] == [shape, low, high]
        assert [str(x.dtype) for x in settled.inputs] == [dtype] * 3
        assert np.all(settled.inputs[1] <= settled.inputs[2])
        assert settled.is_settled


@pytest.mark.parametrize("draw", [cases, extreme_cases, kinked_cases])
def test_only_defined_calls_are_drawn(draw: Any) -> None:
    drawn: list[Case] = []
    arguments = ([CLIP], ["float64"], 4, False) if draw is cases else (CLIP, ["float64"], 4)

    @GENERATE_ONLY_SETTINGS
    @given(data=st.data())
    def note(data: st.DataObject) -> None:
        drawn.extend(data.draw(draw(*arguments)))

    note()
    assert all(case.is_settled for case in drawn)
    both = [case.inputs[1:] for case in drawn if len(case.inputs) == 3]
    assert any(np.any(low > 0) for low, _ in both)  # not all on the two sides of zero
    assert any(np.any(high < 0) for _, high in both)


def test_rare_cases_are_defined_calls() -> None:
    assert all(c.is_settled for kind in RARE_KINDS for c in iterate_rare_cases([CLIP], kind, ["float64"]))


@pytest.mark.rotating
def test_programs_have_defined_calls_alone() -> None:
    backend: Backend = make_backend_of_rules(
        **{name: OPS[name].rule for name in ("add", "multiply", "negative", "clip")}
        | {"clip": lower_bound_wins}
    )
    judged: list[str] = []
    has_clip: list[bool] = []

    @settings(GENERATE_ONLY_SETTINGS, max_examples=8)
    @given(data=st.data())
    def judge(data: st.DataObject) -> None:
        for program in data.draw(programs(backend, ["float64"])):
            judged.append(judge_case(every_gradient_of_a_program_agrees, backend, program).verdict)
            has_clip.append(any(name == "clip" for name, *_ in program.steps))

    judge()
    assert "disagree" not in judged
    assert any(has_clip)
