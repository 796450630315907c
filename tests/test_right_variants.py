"""What is right but different passes, on a few cases of every property; `make sensitivity` tries it on many."""

from collections.abc import Iterator
from typing import Any

import pytest
from faults import alarms, asked, right, shared
from faults.alarms import Verdict, judged, units
from faults.fault import Array, Made
from faults.registry import faults, right_variants

from gradspec.properties.judging.judge import Measure

KINDS = {right.SUBGRADIENT, right.ORDER, right.FORMULA, right.LAYOUT, right.WIDER}


@pytest.fixture(autouse=True)
def few_examples_and_one_judge_of_each(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(asked.PROFILE, "max_examples", 2)
    monkeypatch.setattr(Measure, "__init__", Measure.__init__)
    shared.share()
    asked.forget()
    yield
    asked.forget()
    shared.forget()


def verdicts(name: str, op: str) -> list[Verdict]:
    return [judged(unit, seed=1) for unit in units(name, op)]


def test_there_are_variants_of_every_kind() -> None:
    assert {variant.kind for variant in right_variants().values()} == KINDS
    assert len(right_variants()) >= 100


def test_variants_have_names_of_their_own() -> None:
    assert len(right_variants()) == len(right.RIGHT)


@pytest.mark.rotating
@pytest.mark.parametrize("op", sorted({variant.op for variant in right_variants().values()}))
def test_what_is_right_but_different_passes(op: str) -> None:
    names = [name for name, variant in right_variants().items() if variant.op == op]
    said = [verdict for name in names for verdict in verdicts(name, op)]
    assert sum(verdict.judged for verdict in said) > 0
    assert not [(v.unit, v.alarm) for v in said if v.alarm]


def test_what_is_wrong_raises_an_alarm(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = faults()["relu: the gradient is doubled"].plant()
    monkeypatch.setattr(alarms, "implementation", lambda _: wrong)
    (alarm,) = [
        v.alarm for v in verdicts("relu: doubled", "relu") if v.unit.property == "test_every_gradient_agrees"
    ]
    assert alarm
    assert "the gradient of x" in alarm
    assert "Case.of(" in alarm


def test_a_variant_refuses_what_the_spec_refuses() -> None:
    def sum_of_whatever(x: Array, *, axis: Any = None, keepdims: bool = False) -> Made:
        return x.sum(), (lambda g: g,)

    right.right("sum", right.FORMULA)(sum_of_whatever)
    variant = right.RIGHT.pop()
    with pytest.raises(IndexError):
        variant.plant().ops["sum"](alarms.implementation("numpy").from_numpy([1.0]), axis=3)
