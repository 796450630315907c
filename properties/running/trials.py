"""Ops of one's own on trial: each is tried in the spec before any kernel is judged by it.

The laws are those that the spec's own ops keep: agreement with numerical differentiation, and stability. A
profile that draws few examples draws the usual number here: of a rule that is wrong nothing can be said.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from gradspec.properties.running.failure import LawViolation
from gradspec.properties.running.op_selection import SPEC
from gradspec.properties.running.profiles import PROFILES
from gradspec.properties.running.selection import get_target
from gradspec.properties.running.targets import BackendUnderTest, OpUnderTest


def is_on_trial(target: BackendUnderTest | None) -> bool:
    """Return whether a target is an op of one's own, tried in the spec."""
    return isinstance(target, OpUnderTest) and bool(target.op.module) and target.backend.name == SPEC


def sort_trials_first(items: list[pytest.Item]) -> None:
    """Put the items that try ops of one's own in the spec before all others."""
    items.sort(key=lambda item: not is_on_trial(get_target(item)))


def draw_enough_examples(target: BackendUnderTest, profile: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a property with no fewer examples than by default, where an op is on trial."""
    count = profile["max_examples"]
    return {**profile, "max_examples": max(count, PROFILES["default"]) if is_on_trial(target) else count}


def explain_trial(violation: LawViolation, target: BackendUnderTest) -> LawViolation:
    """Return the violation; one by an op on trial says what that means."""
    if not is_on_trial(target):
        return violation
    judgement = violation.judgement
    if judgement.verdict == "lossy":
        what = f"so the declaration of {target.name} loses digits: a backend that loses as many is not found"
    else:
        what = f"so the declaration of {target.name} is wrong: mend it first, since backends are judged by it"
    judgement = replace(judgement, reason=f"{judgement.reason}\n  {what}")
    explained = LawViolation(violation.law, violation.backend, violation.case, judgement)
    explained.others = violation.others
    return explained
