"""The verdict on a result, once it is known how far off it is and how far off it may be."""

from typing import Any

import numpy as np

from gradspec.properties.judging.judgement import Judgement, WrongElement
from gradspec.reference.rule import Array


def reach_verdict(
    what: str,
    got: Array,
    exact: Array,
    error: Array,
    allowed: Array,
    usually_allowed: Array,
    decidable: Array,
) -> Judgement:
    """Return the judgement of a result, given what the first formula and what any formula allows."""
    with np.errstate(all="ignore"):
        ratio = np.where(decidable, error / usually_allowed, 0)
        losses = ratio if usually_allowed is allowed else np.where(decidable, error / allowed, 0)
    worst = float(ratio.max(initial=0))
    loss = worst if losses is ratio else float(losses.max(initial=0))
    is_told = decidable & ((usually_allowed < np.abs(exact)) | (exact == 0))
    counts: dict[str, Any] = {
        "worst": worst,
        "informative": bool(np.any(is_told & (exact != 0))),
        "elements": exact.size,
        "undecidable_elements": exact.size - int(np.count_nonzero(is_told)),
    }
    if worst > 1:
        wrong = _find_wrong_element(what, got, exact, ratio)
        allowed_there, off_by = float(usually_allowed[wrong.at]), float(error[wrong.at])
        reason = f"{_describe_element(wrong)}, off by {off_by:.3g} ({allowed_there:.3g} is allowed)"
        return Judgement("disagree", reason, **{**counts, "informative": True}, wrong=wrong)
    if loss > 1:
        wrong = _find_wrong_element(what, got, exact, losses)
        off_by, stable, usual = (float(x[wrong.at]) for x in (error, allowed, usually_allowed))
        off = f"off by {off_by:.3g} (the stable formula allows {stable:.3g}, a usual one {usual:.3g})"
        return Judgement("lossy", f"{_describe_element(wrong)}, {off}", loss=loss, **counts, wrong=wrong)
    if counts["informative"]:
        return Judgement("agree", **counts)
    if not np.all(decidable):
        return Judgement("undecidable", f"the {what} overflows at this precision", **counts)
    if np.any(exact):
        return Judgement("undecidable", f"what is allowed of the {what} is too wide to tell", **counts)
    return Judgement("agree", f"the {what} is zero throughout", **counts)


def _describe_element(wrong: WrongElement) -> str:
    where = f" at {wrong.at}" if wrong.at else ""
    return f"the {wrong.what}{where} is {wrong.got:.9g}, expected {wrong.expected:.9g}"


def _find_wrong_element(what: str, got: Array, exact: Array, ratio: Array) -> WrongElement:
    """Return the result and the exact number where the ratio is largest."""
    at = tuple(map(int, np.unravel_index(np.argmax(ratio), ratio.shape)))
    return WrongElement(what, at, float(got[at]), float(exact[at]))


def judge_equality(what: str, got: Array, exact: Array) -> Judgement:
    """Return the judgement of a result of integers or booleans: it is the exact one, or wrong."""
    wrong = np.argwhere(got != exact)
    if len(wrong):
        at = tuple(map(int, wrong[0]))
        reason = f"the {what} at {at} is {got[at]}, expected exactly {exact[at]}"
        wrong_element = WrongElement(what, at, float(got[at]), float(exact[at]))
        return Judgement("disagree", reason, worst=np.inf, wrong=wrong_element)
    return Judgement("agree", informative=exact.size > 0, elements=exact.size)
