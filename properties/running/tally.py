"""What is counted of a property: its tally of judged cases, and how it ended for one op and backend."""

from dataclasses import asdict, dataclass
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
        worst: The largest error, where 1 is the largest allowed.
    """

    judged: int = 0
    informative: int = 0
    undecidable: int = 0
    worst: float = 0.0

    def add(self, judgement: Judgement) -> None:
        self.judged += 1
        self.informative += judgement.informative
        self.undecidable += judgement.verdict == "undecidable"
        self.worst = max(self.worst, judgement.worst)

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(
            self.judged + other.judged,
            self.informative + other.informative,
            self.undecidable + other.undecidable,
            max(self.worst, other.worst),
        )


@dataclass
class PropertyResult:
    """The outcome of one property for one op and backend.

    It is "passed", "failed", "skipped" or "known", which means that it failed as the backend declares.
    """

    property: str
    op: str
    backend: str
    outcome: str
    tally: Tally

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, entry: dict[str, Any]) -> "PropertyResult":
        return cls(**{**entry, "tally": Tally(**entry["tally"])})


def to_sentence(test: str) -> str:
    """Return the property's sentence, given the name of its test."""
    return make_printable(test.removeprefix("test_").replace("_", " "))
