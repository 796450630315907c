"""Severity: what a failure does to a user, decided here and nowhere else.

- wrong: a wrong number, shape or dtype on ordinary inputs, second derivatives and strided arrays included;
- raises: an exception on ordinary inputs, at a second call of a pullback and by recursion, too;
- edge: either of the two at a kink, at extreme numbers, infinity or NaN, outside a domain, on empty arrays;
- unsafe: something is changed that is not the call's to change (inputs, cotangents, other results, what later
  calls give, the working directory), or the process was killed or hung;
- lossy: within the noise of a usual formula alone;
- lax: what the spec refuses was accepted.

Each law's module declares as `SEVERITY` what a violation of it is, as a rule; the judgement and the case
refine it, in this order:

1. A lossy verdict is lossy, and a process that was lost is unsafe, whatever the law.
2. What the judgement itself says counts, where a law asks several questions at once (`laws.bad_input`).
3. An exception of the backend counts as "raises", whatever the law: its question was not even answered. On a
   case that is not ordinary it is at the edge.
4. A law that declares "wrong" or "edge" is about results: wrong on an ordinary case, at the edge on any
   other. For one that declares "edge", a case on a kink is not ordinary.
5. Else it is what the law declares: memory that is written to is so with whatever numbers.

A case is ordinary if none of its arrays is empty, all its numbers are finite, within their domains, and zero
or of a size whose square neither overflows nor underflows, and the spec's value and gradients are finite:
those of a variance of n elements with a correction of n are not. A law whose usual formulas have higher
powers than squares declares which as `ORDINARY_POWER`. Programs, chains and networks are ordinary.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import ml_dtypes
import numpy as np

from gradspec.properties.cases.case import Case, dtype_of, exact_dtype
from gradspec.properties.cases.evaluate import run_spec
from gradspec.properties.cases.programs import is_inside
from gradspec.properties.judging.formula_samples import compute_quietly
from gradspec.properties.judging.judgement import Judgement, Severity, get_declared_severity
from gradspec.properties.judging.process_server import CrashOrTimeout
from gradspec.reference.domains import Interval
from gradspec.reference.rule import Array

SEVERITIES: Mapping[Severity, str] = MappingProxyType(
    {
        "wrong": "a wrong number, shape or dtype on ordinary inputs",
        "raises": "an exception on ordinary inputs",
        "edge": "wrong, or an exception, at a kink, extreme numbers, infinity, NaN or an empty array",
        "unsafe": "something is changed that must not be, or the process was killed or hung",
        "lossy": "digits are lost, as a usual formula loses them",
        "lax": "what the spec refuses is accepted",
    }
)
"""What each severity means, the worst first."""

DEFAULT_FAILING_SEVERITIES: frozenset[Severity] = frozenset({"wrong", "raises", "edge", "unsafe"})
"""Those that make a property fail unless `--fail-on` says otherwise."""

_RANKS = {severity: rank for rank, severity in enumerate(SEVERITIES)}


def rank_severity(severity: str) -> int:
    """Return 0 for the worst severity, more for the others, most for none."""
    return _RANKS.get(severity, len(_RANKS))  # type: ignore[call-overload,no-any-return]


def classify_severity(law: Callable[..., Any], case: Any, judgement: Judgement) -> Severity | None:
    """Return the severity of what the judgement says of the case; None if it is no violation of the law."""
    if judgement.verdict == "lossy":
        return "lossy"
    if judgement.verdict != "disagree":
        return None
    if isinstance(judgement, CrashOrTimeout):
        return "unsafe"
    if judgement.severity:
        return judgement.severity
    declared = get_declared_severity(law)
    if judgement.raised or declared in ("wrong", "edge"):
        is_edge = not is_ordinary(case, get_ordinary_power(law)) or (declared == "edge" and _is_on_kink(case))
        return "edge" if is_edge else "raises" if judgement.raised else "wrong"
    return declared


def explains(
    severity: Severity | None, raised: bool, other_severity: Severity | None, other_raised: bool
) -> bool:
    """Return whether a failure stands for another one: as severe, or an edge beside "wrong" or "raises".

    A wrong number never stands for an exception, nor an exception for a wrong number.
    """
    is_upgraded = other_severity == "edge" and severity in ("wrong", "raises")
    return raised == other_raised and (severity == other_severity or is_upgraded)


def get_ordinary_power(law: Callable[..., Any]) -> int:
    """Return the `ORDINARY_POWER` of the module of a law; 2 for a law whose module has none."""
    power: int = getattr(law, "__globals__", {}).get("ORDINARY_POWER", 2)
    return power


def is_ordinary(case: Any, power: int = 2) -> bool:
    """Return whether a case has ordinary numbers and finite results alone, and no empty array.

    Args:
        case: The case.
        power: Which power of a size must neither overflow nor underflow.
    """
    if not isinstance(case, Case):
        return True
    domains = [case.op.domain(i) for i in range(len(case.inputs))]
    return all(
        _has_ordinary_numbers(x, domain, power)
        for x, domain in zip((*case.inputs, case.cotangent), (*domains, Interval()), strict=True)
    ) and _has_finite_results(case)


def _has_ordinary_numbers(x: Array, domain: Any, power: int) -> bool:
    if x.dtype.kind in "biu" or not x.size:
        return bool(x.size)
    info = ml_dtypes.finfo(x.dtype)
    size = np.abs(x.astype(np.longdouble))
    with np.errstate(all="ignore"):
        powers = size**power
    ordinary = (size == 0) | ((powers >= float(info.smallest_normal)) & (powers <= float(info.max)))
    return bool(np.all(ordinary)) and (
        not isinstance(domain, Interval) or bool(np.all(is_inside(domain, x.astype(np.float64))))
    )


def _has_finite_results(case: Case) -> bool:
    """Return whether the value and gradients of the spec are finite in the dtype, or it refuses the call."""
    try:
        exact = compute_quietly(
            lambda convert: run_spec(case.map_float_arrays(convert)),
            lambda x: x.astype(exact_dtype(case.dtype)),
        )
    except Exception:  # then the case is about what is refused, not about numbers
        return True
    with np.errstate(all="ignore"):
        return all(
            bool(np.all(np.isfinite(x.astype(dtype_of(case.dtype)).astype(np.float64))))
            for x in (exact.value, *exact.gradients.values())
            if x.dtype.kind not in "biu"
        )


def _is_on_kink(case: Any) -> bool:
    return isinstance(case, Case) and any(np.any(d == 0) for d in case.compute_kink_distances())
