"""What a measurement amounts to: rates, medians and survivors."""

import json
import statistics
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from faults.alarms import Verdict
from faults.equivalent import EQUIVALENT
from faults.fault import Fault
from faults.measure import Measured, Outcome
from faults.registry import faults, right_variants

ENOUGH = 0.8  # of the seeds: a fault that they find counts as found


@dataclass
class Found:
    """One fault over all seeds."""

    fault: Fault
    outcomes: list[Outcome] = field(default_factory=list)

    @property
    def kills(self) -> int:
        return sum(o.killed is not None for o in self.outcomes)

    @property
    def is_found(self) -> bool:
        return self.kills >= ENOUGH * len(self.outcomes)

    @property
    def by(self) -> Counter[str]:
        return Counter(o.killed.by for o in self.outcomes if o.killed)

    @property
    def examples(self) -> float:
        """The median of the examples that it took, inf for those that did not do."""
        return statistics.median(o.killed.examples if o.killed else float("inf") for o in self.outcomes)


@dataclass
class Summary:
    """A measurement. seconds: of wall-clock time; processes: how many worked; work: seconds of the processor in all of them."""

    found: list[Found]
    verdicts: list[Verdict]
    seconds: float
    processes: int
    work: float

    @property
    def seeds(self) -> list[int]:
        return sorted({o.seed for f in self.found for o in f.outcomes})

    def rate(self, seed: int) -> float:
        """The share of the faults that this seed finds."""
        of_seed = [o.killed is not None for f in self.found for o in f.outcomes if o.seed == seed]
        return statistics.mean(of_seed)

    @property
    def survivors(self) -> list[Found]:
        return sorted((f for f in self.found if f.kills < len(f.outcomes)), key=lambda f: f.kills)

    @property
    def alarms(self) -> list[Verdict]:
        return [v for v in self.verdicts if v.alarm]

    @property
    def of_backends(self) -> list[Verdict]:
        """What was said of unmodified backends."""
        return [v for v in self.verdicts if v.unit.backend not in right_variants()]

    @property
    def of_variants(self) -> list[Verdict]:
        """What was said of variants that are right but different."""
        return [v for v in self.verdicts if v.unit.backend in right_variants()]

    def by_property(self) -> Counter[str]:
        return sum((f.by for f in self.found), Counter())

    def as_json(self) -> dict[str, Any]:
        return {
            "seconds": round(self.seconds, 1),
            "processes": self.processes,
            "faults": len(self.found),
            "equivalent": EQUIVALENT,
            "found": sum(f.is_found for f in self.found),
            "rate by seed": {seed: self.rate(seed) for seed in self.seeds},
            "processor seconds": round(self.work, 1),
            "judged cases of unmodified backends": judged(self.of_backends),
            "right variants": sorted({v.unit.backend for v in self.of_variants}),
            "judged cases of right variants": judged(self.of_variants),
            "false alarms": [asdict(v) for v in self.alarms],
            "by fault": [_described(f) for f in self.found],
        }


def save(found: Any, file: Path) -> None:
    """Write it as JSON, whole or not at all."""
    with NamedTemporaryFile("w", dir=file.parent, prefix=file.name, delete=False) as whole:
        json.dump(found, whole, indent=1)
    Path(whole.name).replace(file)


def judged(verdicts: Iterable[Verdict]) -> int:
    """How many cases they are of."""
    return sum(v.judged for v in verdicts)


def summed_up(whole: Measured, seconds: float, processes: int) -> Summary:
    found: dict[str, Found] = {}
    for outcome in whole.outcomes:
        found.setdefault(outcome.fault, Found(faults()[outcome.fault])).outcomes.append(outcome)
    return Summary([*found.values()], whole.verdicts, seconds, processes, whole.seconds)


def _described(f: Found) -> dict[str, Any]:
    return {
        "op": f.fault.op,
        "kind": f.fault.kind,
        "fault": f.fault.name,
        "source": f.fault.source,
        "found by": dict(f.by),
        "seeds": len(f.outcomes),
        "found with": f.kills,
        "examples": [o.killed and o.killed.examples for o in f.outcomes],
    }
