"""The search for failures of different kinds, in several runs of one property.

Hypothesis shrinks a failure to any simpler one. A wrong gradient would become an exception that a smaller
array raises, and nobody would be told that it is wrong. So a run pursues the kind of failure that it met
first and passes over the others; further runs search for these. Those at edges come last: most follow from
others.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from gradspec.properties.judging.judgement import Severity
from gradspec.properties.running.failure import LawViolation

Kind = tuple[Severity | None, bool]
"""Of a violation: its severity, and whether it is an exception."""

FindSimplerCase = Callable[[], Any] | None
"""Finds simpler values for a case that failed, where there can be any."""


@dataclass
class Search:
    """What is searched for, and what was found.

    Attributes:
        any_severity: Whether whatever breaks the law is searched for, as where a deviation is declared.
        edges: Whether violations at edges are searched for, too.
        found: One violation of each kind that was found; what they explain is no news.
        passed_over: The shortest of the other violations, by kind.
        pursued: The kind that the present run pursues; None before it meets a violation.
    """

    any_severity: bool = False
    edges: bool = False
    found: list[LawViolation] = field(default_factory=list)
    passed_over: dict[Kind, tuple[LawViolation, FindSimplerCase]] = field(default_factory=dict)
    pursued: Kind | None = None

    def is_news(self, kind: Kind) -> bool:
        """Return whether nothing that was found explains a violation of this kind."""
        return not any(violation.explains(*kind) for violation in self.found)

    def pursues(self, violation: LawViolation, find_simpler_case: FindSimplerCase) -> bool:
        """Return whether the present run pursues a violation, which is passed over otherwise."""
        if self.pursued is None and (self.edges or self.any_severity or violation.severity != "edge"):
            self.pursued = violation.kind
        if violation.kind == self.pursued:
            return True
        before, _ = self.passed_over.get(violation.kind, (None, None))
        if before is None or len(str(violation)) < len(str(before)):
            self.passed_over[violation.kind] = violation, find_simpler_case
        return False

    def list_unexplained(self) -> list[tuple[LawViolation, FindSimplerCase]]:
        """Return the violations that were passed over and that nothing found explains."""
        return [item for kind, item in self.passed_over.items() if self.is_news(kind)]
