"""What is counted of a property: its tally of judged cases, and how it ended for one op and backend."""

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from gradspec.properties.judging.error_descriptions import make_printable
from gradspec.properties.judging.judge import Judgement


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

    def __add__(self, other: "Tally") -> "Tally":
        larger_loss = max(self, other, key=lambda tally: tally.loss)
        return Tally(
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
        )


@dataclass
class PropertyResult:
    """The outcome of one property for one op and backend.

    It is "passed", "failed", "skipped" or "known", which means that it failed as the backend declares.

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
