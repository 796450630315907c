"""Judgements: what the judge says of one case, and of several parts of it together."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

Verdict = Literal["agree", "lossy", "disagree", "declined", "undecidable"]
"""How a result stands to the spec.

- "agree": within the noise of the spec's own formula, the stable one.
- "lossy": outside of that, but within the noise of a usual formula of the op: not wrong, but digits are lost.
- "disagree": outside of both.
- "declined": the backend does not offer this call, which says nothing of its results.
- "undecidable": no result could have been found wrong.
"""

Severity = Literal["wrong", "raises", "edge", "unsafe", "lossy", "lax"]
"""What a violation does to a user; `severity` says what each means, and decides which it is."""

_WORST_FIRST: tuple[Verdict, ...] = ("disagree", "declined", "lossy", "agree", "undecidable")


def get_declared_severity(law: Callable[..., Any]) -> Severity:
    """Return the `SEVERITY` of the module of a law; "wrong" for a law whose module has none."""
    declared: Severity = getattr(law, "__globals__", {}).get("SEVERITY", "wrong")
    return declared


@dataclass(frozen=True)
class WrongElement:
    """The element of a result that a disagreement is about.

    Attributes:
        what: Which result it is of, in words: "value", "gradient of x".
        at: Where it stands there.
        got: What it is.
        expected: What it should be, rounded to a double.
        direction: Of a derivative along a direction v, v as a NumPy literal.
        how: Where it is no result of a plain call, how it came about, in words: "with y constant".
    """

    what: str
    at: tuple[int, ...]
    got: float
    expected: float
    direction: str = ""
    how: str = ""


@dataclass(frozen=True)
class Judgement:
    """What the judge says of one case.

    Attributes:
        verdict: How the result stands to the spec.
        reason: Why the verdict is not "agree", or why an agreement says little.
        informative: Whether a result of all zeros would have been found wrong somewhere.
        worst: The largest error, in units of what was allowed; 0 where no numbers were compared, as of what
            raises or ends its process.
        loss: Of a lossy result the largest error, in units of what the noise of the stable formula allows.
        elements: How many elements were compared.
        undecidable_elements: Of how many of these nothing could be said: they overflow at this precision, or
            the allowed distance is as large as they are themselves.
        raised: Whether it disagrees because the backend raised an exception.
        severity: What the violation is, where that is not what its law declares.
        wrong: Of a result that is wrong, or lossy, the element that is furthest off; None where a reason is
            not about one.
        case: The case that the reason is about, where that is made of the one that was judged: with another
            cotangent, say.
        flushing: The dtype of the case if the backend flushes subnormal numbers to zero in it, else "".
    """

    verdict: Verdict
    reason: str = ""
    informative: bool = True
    worst: float = 0.0
    loss: float = 0.0
    elements: int = 0
    undecidable_elements: int = 0
    raised: bool = False
    severity: Severity | None = None
    wrong: WrongElement | None = None
    case: Any = None
    flushing: str = ""


def describe_circumstances(judgement: Judgement, how: str) -> Judgement:
    """Return a judgement of what is no plain call, with how it came about before its reason."""
    wrong = judgement.wrong and replace(judgement.wrong, how=how)
    return replace(judgement, reason=f"{how}, {judgement.reason}", wrong=wrong)


def combine_judgements(judgements: list[Judgement]) -> Judgement:
    """Return one judgement of several parts of a case: the worst verdict, informative if any part is."""
    if not judgements:
        return Judgement("agree", informative=False)
    first = min(judgements, key=lambda j: (_WORST_FIRST.index(j.verdict), -j.loss))
    return replace(
        first,
        informative=any(j.informative for j in judgements),
        worst=max(j.worst for j in judgements),
        loss=max(j.loss for j in judgements),
        elements=sum(j.elements for j in judgements),
        undecidable_elements=sum(j.undecidable_elements for j in judgements),
    )
