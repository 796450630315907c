"""The measurement, in several processes: which faults are detected with which seeds, and the false alarms."""

import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from multiprocessing import get_context

from gradspec.properties.running import profiles
from tests.faults import drawn_cases, judge_cache
from tests.faults.alarms import TrialResult, list_trials, run_trial
from tests.faults.detection import Detection, detect_fault
from tests.faults.registry import faults

# How many of the seeds variants are tried with; on a variant every property has to run to its end.
N_SEEDS_OF_VARIANTS = 1

ReportProgress = Callable[[str], None]


@dataclass(frozen=True)
class FaultSeedOutcome:
    """The outcome of one fault with one seed: how it was detected, if at all."""

    fault: str
    seed: int
    detection: Detection | None


@dataclass(frozen=True)
class OpTask:
    """What a worker does at a time: all trials of one op with one seed, which share the cases that are drawn.

    Args:
        op: The op, or "programs" for engines.
        seed: The seed.
        faults: The names of the faults.
        backends: The names of variants and unmodified backends.
    """

    op: str
    seed: int
    faults: Sequence[str] = ()
    backends: Sequence[str] = ()


@dataclass
class Measurement:
    """The results of tasks, and the processor seconds that they took."""

    outcomes: list[FaultSeedOutcome] = field(default_factory=list)
    trial_results: list[TrialResult] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, other: "Measurement") -> None:
        self.outcomes += other.outcomes
        self.trial_results += other.trial_results
        self.seconds += other.seconds

    def count_judged_cases(self, backends: Iterable[str]) -> int:
        """Return how many cases of these backends were judged."""
        return sum(r.judged_cases for r in self.trial_results if r.trial.backend in backends)


def start_workers(count: int) -> Executor:
    """Start processes, each with a fresh interpreter and one thread."""
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")
    return ProcessPoolExecutor(count, mp_context=get_context("spawn"), initializer=prepare_worker)


def prepare_worker() -> None:
    """Prepare a worker process: register the profiles and share measures."""
    profiles.register_profiles()
    judge_cache.share_measures()


def run_task(task: OpTask) -> Measurement:
    """Run a task, in a worker."""
    start = time.process_time()
    drawn_cases.clear_cache()
    judge_cache.clear_cache()
    trials = [trial for name in task.backends for trial in list_trials(name, task.op)]
    results = [run_trial(trial, task.seed) for trial in trials]
    outcomes = [
        FaultSeedOutcome(name, task.seed, detect_fault(faults()[name], task.seed)) for name in task.faults
    ]
    return Measurement(outcomes, results, time.process_time() - start)


def run_tasks(
    pool: Executor, op_tasks: Iterable[OpTask], report: ReportProgress, label: str
) -> Iterator[Measurement]:
    """Yield the results of the tasks in the order in which they end."""
    futures = [pool.submit(run_task, task) for task in op_tasks]
    for i, future in enumerate(as_completed(futures), 1):
        yield future.result()
        report(f"{label}: {i:,} of {len(futures):,} tasks")


def measure_all(
    pool: Executor,
    faults_by_op: dict[str, list[str]],
    variants_by_op: dict[str, list[str]],
    backends: Sequence[str],
    seeds: Sequence[int],
    cases: int,
    report: ReportProgress,
) -> Measurement:
    """Try every fault with every seed, variants with some seeds, and backends until enough cases are judged.

    Args:
        pool: The workers.
        faults_by_op: The names of the faults.
        variants_by_op: The names of the variants.
        backends: The names of unmodified backends; their cases are much the same.
        seeds: The seeds, which follow each other.
        cases: How many cases of the backends are judged. If the seeds are too few for that, the backends are
            also tried with those that follow.
        report: Called with the progress in words.
    """
    whole, judged_before = Measurement(), -1
    for i, seed in enumerate(itertools.count(min(seeds))):
        judged_so_far = whole.count_judged_cases(backends)
        unmodified = backends if judged_before < judged_so_far < cases else ()
        if seed not in seeds and not unmodified:
            break
        judged_before = judged_so_far
        op_tasks = [
            OpTask(
                op,
                seed,
                faults_by_op[op] if seed in seeds else (),
                [*unmodified, *(variants_by_op[op] if i < N_SEEDS_OF_VARIANTS else ())],
            )
            for op in faults_by_op
        ]
        for part in run_tasks(pool, op_tasks, report, f"seed {seed}"):
            whole.add(part)
    whole.outcomes.sort(key=lambda o: (o.fault, o.seed))
    return whole
