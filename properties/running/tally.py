"""What is counted of a property: its tally of judged cases, and how it ended for one op and backend."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from gradspec.properties.judging.error_descriptions import make_printable
from gradspec.properties.judging.judge import Judgement

MAX_REASONS = 20
"""How many different reasons to decline are counted one by one; a reason may name the shapes of its call."""

OTHER_REASONS = "other reasons"


@dataclass
class Tally:
    """The cases of one property, op and backend.

    Attributes:
        judged: How many were judged.
        informative: How many of these could have shown an error.
        undecidable: How many of these nothing could be said about.
        worst: The largest error, where 1 is the largest allowed, by as much of the noise as was measured.
        margin: The same by all of the noise, of the cases that came nearest to 1; None if not measured.
        lossy: How many were lossy: as right as a usual formula of the op, but not as the stable one.
        loss: The largest error of a lossy case, where 1 is the largest that the stable formula allows.
        loss_example: What was said of that case.
        elements: How many elements were compared in all cases.
        undecidable_elements: Of how many of these nothing could be said.
        violations: How many cases broke the law, by severity.
        declined: How many cases the backend declined; they count as judged, but not as informative.
        decline_reasons: How often each reason was given for it.
        flushing: The dtypes, among those of the cases, in which the backend flushes subnormal numbers.
        deviations: The entries of the backend's `known` that were searched for, as written there, and
            whether a violation was found that each excuses.
    """

    judged: int = 0
    informative: int = 0
    undecidable: int = 0
    worst: float = 0.0
    lossy: int = 0
    loss: float = 0.0
    loss_example: str = ""
    elements: int = 0
    undecidable_elements: int = 0
    violations: dict[str, int] = field(default_factory=dict)
    margin: float | None = None
    declined: int = 0
    decline_reasons: dict[str, int] = field(default_factory=dict)
    flushing: list[str] = field(default_factory=list)
    deviations: dict[str, bool] = field(default_factory=dict)

    @property
    def largest_error(self) -> float | None:
        """The margin; or what is more than is allowed, for which all of the noise has been measured."""
        return self.worst if self.worst > 1 else self.margin

    def add(self, judgement: Judgement, severity: str | None = None) -> None:
        """Count a judgement.

        Args:
            judgement: The judgement.
            severity: What its violation of the law is; None if it is none.
        """
        self.judged += 1
        self.informative += judgement.informative
        self.undecidable += judgement.verdict == "undecidable"
        self.worst = max(self.worst, judgement.worst)
        self.elements += judgement.elements
        self.undecidable_elements += judgement.undecidable_elements
        if judgement.verdict == "lossy":
            self.lossy += 1
            if judgement.loss > self.loss:
                self.loss, self.loss_example = judgement.loss, judgement.reason
        if severity:
            self.violations[severity] = self.violations.get(severity, 0) + 1

        if judgement.verdict == "declined":
            self.declined += 1
            self._count_reasons({judgement.reason: 1})
        if judgement.flushing and judgement.flushing not in self.flushing:
            self.flushing.append(judgement.flushing)

    def note_deviation(self, declaration: str, *, shows: bool) -> None:
        """Note whether a violation was found that an entry of the backend's `known` excuses."""
        self.deviations[declaration] = shows or self.deviations.get(declaration, False)

    def _count_reasons(self, counts: Mapping[str, int]) -> None:
        reasons = self.decline_reasons
        for reason, count in counts.items():
            kept = reason if reason in reasons or len(reasons) < MAX_REASONS else OTHER_REASONS
            reasons[kept] = reasons.get(kept, 0) + count

    @property
    def is_not_offered(self) -> bool:
        """Whether the backend declined every case in which it was asked for something."""
        return bool(self.declined) and not self.informative and not self.elements

    def __add__(self, other: "Tally") -> "Tally":
        larger_loss = max(self, other, key=lambda tally: tally.loss)
        total = Tally(
            self.judged + other.judged,
            self.informative + other.informative,
            self.undecidable + other.undecidable,
            max(self.worst, other.worst),
            self.lossy + other.lossy,
            larger_loss.loss,
            larger_loss.loss_example,
            self.elements + other.elements,
            self.undecidable_elements + other.undecidable_elements,
            dict(Counter(self.violations) + Counter(other.violations)),
            max((m for m in (self.margin, other.margin) if m is not None), default=None),
            self.declined + other.declined,
            dict(self.decline_reasons),
            list(dict.fromkeys([*self.flushing, *other.flushing])),
            dict(self.deviations),
        )
        for declaration, shows in other.deviations.items():
            total.note_deviation(declaration, shows=shows)
        total._count_reasons(other.decline_reasons)
        return total


@dataclass
class PropertyResult:
    """The outcome of one property for one op and backend.

    It is "passed", "failed", "skipped", "known", which means that it failed as the backend declares,
    "declined", which means that the backend declined every case, or "not asked", which means that no case was
    found that the law applies to.

    Attributes:
        property: The name of the test.
        op: The name of the op, or "programs".
        backend: The name of the backend.
        outcome: How it ended.
        tally: What was counted.
        severity: That of the worst failure; of one that passed that of the worst violation, lossy or lax for
            instance; "" without any.
    """

    property: str
    op: str
    backend: str
    outcome: str
    tally: Tally
    severity: str = ""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, entry: dict[str, Any]) -> "PropertyResult":
        return cls(**{**entry, "tally": Tally(**entry["tally"])})


def to_sentence(test: str) -> str:
    """Return the property's sentence, given the name of its test."""
    return make_printable(test.removeprefix("test_").replace("_", " "))
