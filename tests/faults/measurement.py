"""The measurement in two processes: which faults are found with which seeds, and whether anything right is found fault with."""

import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from multiprocessing import get_context

from gradspec.properties.running import options
from tests.faults import drawn_cases, shared_measures
from tests.faults.alarms import TrialResult, list_trials, run_trial
from tests.faults.detection import Detection, detect_fault
from tests.faults.registry import faults

SEEDS_OF_VARIANTS = (
    1  # of the seeds: so many times variants are tried, for which every property has to run to its end
)

ReportProgress = Callable[[str], None]


@dataclass(frozen=True)
class FaultOutcome:
    """What came of one fault and one seed: by which property it was found and at which example, if at all."""

    fault: str
    seed: int
    detection: Detection | None


@dataclass(frozen=True)
class OpTask:
    """What a process does at a time: all that is tried of one op with one seed, for which cases are drawn but once.

    wrong: faults, by name. right: variants and unmodified backends, by name.
    """

    op: str
    seed: int
    faults: Sequence[str] = ()
    backends: Sequence[str] = ()


@dataclass
class Measurement:
    """What came of pieces; seconds: of the processor."""

    outcomes: list[FaultOutcome] = field(default_factory=list)
    trial_results: list[TrialResult] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, other: "Measurement") -> None:
        self.outcomes += other.outcomes
        self.trial_results += other.trial_results
        self.seconds += other.seconds

    def count_judged_cases(self, backends: Iterable[str]) -> int:
        """How many cases of these were judged."""
        return sum(v.judged_cases for v in self.trial_results if v.trial.backend in backends)


def start_workers(count: int) -> Executor:
    """Processes that begin with a fresh interpreter and one thread each."""
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")
    return ProcessPoolExecutor(count, mp_context=get_context("spawn"), initializer=prepare_worker)


def prepare_worker() -> None:
    """What a process does first."""
    options.register_profiles()
    shared_measures.share_measures()


def run_task(task: OpTask) -> Measurement:
    """A task of a worker."""
    start = time.process_time()
    drawn_cases.clear_cache()
    shared_measures.clear_cache()
    verdicts = [run_trial(unit, task.seed) for name in task.backends for unit in list_trials(name, task.op)]
    outcomes = [
        FaultOutcome(name, task.seed, detect_fault(faults()[name], task.seed)) for name in task.faults
    ]
    return Measurement(outcomes, verdicts, time.process_time() - start)


def run_tasks(
    pool: Executor, op_tasks: Iterable[OpTask], report: ReportProgress, label: str
) -> Iterator[Measurement]:
    """What comes of the pieces, in whatever order they end."""
    tasks = [pool.submit(run_task, piece) for piece in op_tasks]
    for i, task in enumerate(as_completed(tasks), 1):
        yield task.result()
        report(f"{label}: {i:,} of {len(tasks):,} pieces")


def measure_all(
    pool: Executor,
    faults_by_op: dict[str, list[str]],
    variants_by_op: dict[str, list[str]],
    backends: Sequence[str],
    seeds: Sequence[int],
    cases: int,
    report: ReportProgress,
) -> Measurement:
    """Every fault with every seed; variants with some of them; backends until so many cases of theirs have been judged.

    wrong, right: faults and variants, by op. backends: unmodified ones, whose cases are much the same; where the seeds are
    too few, they are tried with those that follow.
    """
    whole, before = Measurement(), -1
    for i, seed in enumerate(itertools.count(min(seeds))):
        judged_so_far = whole.count_judged_cases(backends)
        along = backends if before < judged_so_far < cases else ()
        if seed not in seeds and not along:
            break
        before = judged_so_far
        pieces = [
            OpTask(
                op,
                seed,
                faults_by_op[op] if seed in seeds else (),
                [*along, *(variants_by_op[op] if i < SEEDS_OF_VARIANTS else ())],
            )
            for op in faults_by_op
        ]
        for part in run_tasks(pool, pieces, report, f"seed {seed}"):
            whole.add(part)
    whole.outcomes.sort(key=lambda o: (o.fault, o.seed))
    return whole
