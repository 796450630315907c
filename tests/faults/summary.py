"""The summary of a measurement: rates, medians and survivors."""

import json
import statistics
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from tests.faults.alarms import TrialResult
from tests.faults.equivalent import EQUIVALENT
from tests.faults.fault import Fault
from tests.faults.measurement import FaultSeedOutcome, Measurement
from tests.faults.registry import faults, right_variants

MIN_SHARE_OF_SEEDS = 0.8  # a fault counts as detected if at least this share of the seeds detects it


@dataclass
class FaultResultOverSeeds:
    """One fault over all seeds."""

    fault: Fault
    outcomes: list[FaultSeedOutcome] = field(default_factory=list)

    @property
    def detection_count(self) -> int:
        return sum(o.detection is not None for o in self.outcomes)

    @property
    def is_detected(self) -> bool:
        return self.detection_count >= MIN_SHARE_OF_SEEDS * len(self.outcomes)

    @property
    def detections_by_property(self) -> Counter[str]:
        return Counter(o.detection.property for o in self.outcomes if o.detection)

    @property
    def median_examples(self) -> float:
        """The median of the examples that it took; a seed that did not detect the fault counts as inf."""
        return statistics.median(o.detection.example if o.detection else float("inf") for o in self.outcomes)


@dataclass
class Summary:
    """A measurement, summed up.

    Args:
        fault_results: The result of each fault.
        trial_results: The results of the trials of what is right.
        seconds: Wall-clock time.
        processes: How many processes worked.
        processor_seconds: Processor time of all of them.
    """

    fault_results: list[FaultResultOverSeeds]
    trial_results: list[TrialResult]
    seconds: float
    processes: int
    processor_seconds: float

    @property
    def seeds(self) -> list[int]:
        return sorted({o.seed for f in self.fault_results for o in f.outcomes})

    def detection_rate(self, seed: int) -> float:
        """Return the share of the faults that this seed detected."""
        of_seed = [o.detection is not None for f in self.fault_results for o in f.outcomes if o.seed == seed]
        return statistics.mean(of_seed)

    @property
    def survivors(self) -> list[FaultResultOverSeeds]:
        return sorted(
            (f for f in self.fault_results if f.detection_count < len(f.outcomes)),
            key=lambda f: f.detection_count,
        )

    @property
    def alarms(self) -> list[TrialResult]:
        return [r for r in self.trial_results if r.alarm]

    @property
    def backend_results(self) -> list[TrialResult]:
        """The results of unmodified backends."""
        return [r for r in self.trial_results if r.trial.backend not in right_variants()]

    @property
    def variant_results(self) -> list[TrialResult]:
        """The results of variants."""
        return [r for r in self.trial_results if r.trial.backend in right_variants()]

    def count_detections_by_property(self) -> Counter[str]:
        return sum((f.detections_by_property for f in self.fault_results), Counter())

    def as_json(self) -> dict[str, Any]:
        return {
            "seconds": round(self.seconds, 1),
            "processes": self.processes,
            "faults": len(self.fault_results),
            "equivalent": EQUIVALENT,
            "found": sum(f.is_detected for f in self.fault_results),
            "rate by seed": {seed: self.detection_rate(seed) for seed in self.seeds},
            "processor seconds": round(self.processor_seconds, 1),
            "judged cases of unmodified backends": count_judged_cases(self.backend_results),
            "right variants": sorted({r.trial.backend for r in self.variant_results}),
            "judged cases of right variants": count_judged_cases(self.variant_results),
            "false alarms": [asdict(r) for r in self.alarms],
            "by fault": [_fault_result_as_json(f) for f in self.fault_results],
        }


def save_json(data: Any, file: Path) -> None:
    """Write the data as JSON, all of it or nothing."""
    with NamedTemporaryFile("w", dir=file.parent, prefix=file.name, delete=False) as temporary:
        json.dump(data, temporary, indent=1)
    Path(temporary.name).replace(file)


def count_judged_cases(results: Iterable[TrialResult]) -> int:
    """Return how many cases were judged."""
    return sum(r.judged_cases for r in results)


def summarize(measurement: Measurement, seconds: float, processes: int) -> Summary:
    """Return the summary of a measurement that took so many seconds in so many processes."""
    results: dict[str, FaultResultOverSeeds] = {}
    for outcome in measurement.outcomes:
        results.setdefault(outcome.fault, FaultResultOverSeeds(faults()[outcome.fault])).outcomes.append(
            outcome
        )
    return Summary([*results.values()], measurement.trial_results, seconds, processes, measurement.seconds)


def _fault_result_as_json(f: FaultResultOverSeeds) -> dict[str, Any]:
    return {
        "op": f.fault.op,
        "kind": f.fault.kind,
        "fault": f.fault.name,
        "source": f.fault.source,
        "found by": dict(f.detections_by_property),
        "seeds": len(f.outcomes),
        "found with": f.detection_count,
        "examples": [o.detection and o.detection.example for o in f.outcomes],
    }
