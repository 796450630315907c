"""The measurement in two processes: which faults are found with which seeds, and whether anything right is found fault with."""

import os
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context

from faults.alarms import Unit, Verdict, judged, units
from faults.registry import faults
from faults.trial import Killed, tried
from gradspec.properties.running import options

TOGETHER = (
    8  # faults of one task: less and the processes wait for each other, more and they end at different times
)

Report = Callable[[str], None]


@dataclass(frozen=True)
class Outcome:
    """What came of one fault and one seed: by which property it was found and at which example, if at all."""

    fault: str
    seed: int
    killed: Killed | None
    seconds: float


def workers(count: int, prepare: Callable[[], None] = options.register_profiles) -> Executor:
    """Processes that begin with a fresh interpreter and one thread each."""
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")
    return ProcessPoolExecutor(count, mp_context=get_context("spawn"), initializer=prepare)


def try_faults(names: list[str], seed: int) -> list[Outcome]:
    """Each of these faults with one seed; a task of a worker."""
    outcomes = []
    for name in names:
        start = time.monotonic()
        killed = tried(faults()[name], seed)
        outcomes.append(Outcome(name, seed, killed, time.monotonic() - start))
    return outcomes


def kills(pool: Executor, names: list[str], seeds: Iterable[int], report: Report) -> list[Outcome]:
    """Every fault with every seed."""
    groups = [(names[i : i + TOGETHER], seed) for seed in seeds for i in range(0, len(names), TOGETHER)]
    tasks = [pool.submit(try_faults, *group) for group in groups]
    outcomes: list[Outcome] = []
    for done in as_completed(tasks):
        outcomes += done.result()
        report(f"{len(outcomes):,} of {sum(len(g) for g, _ in groups):,} faults tried")
    return sorted(outcomes, key=lambda o: (o.fault, o.seed))


def alarms(pool: Executor, backends: list[str], enough: int, report: Report) -> list[Verdict]:
    """The unmodified backends, again with other seeds until so many cases have been judged."""
    verdicts: list[Verdict] = []
    seed = 0
    while (total := sum(v.judged for v in verdicts)) < enough:
        seed += 1
        for verdict in _pass(pool, [unit for name in backends for unit in units(name)], seed):
            verdicts.append(verdict)
            total += verdict.judged
            report(f"{total:,} of {enough:,} cases of unmodified backends judged")
    return verdicts


def _pass(pool: Executor, found: list[Unit], seed: int) -> Iterator[Verdict]:
    groups = [found[i : i + TOGETHER] for i in range(0, len(found), TOGETHER)]
    for done in as_completed([pool.submit(judge_units, group, seed) for group in groups]):
        yield from done.result()


def judge_units(group: list[Unit], seed: int) -> list[Verdict]:
    """A task of a worker."""
    return [judged(unit, seed) for unit in group]
