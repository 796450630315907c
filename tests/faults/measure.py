"""The measurement in two processes: which faults are found with which seeds, and whether anything right is found fault with."""

import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from multiprocessing import get_context

from faults import asked, shared
from faults.alarms import Verdict, judged, units
from faults.registry import faults
from faults.trial import Killed, tried
from gradspec.properties.running import options

OFTEN = 1  # of the seeds: so many times variants are tried, for which every property has to run to its end

Report = Callable[[str], None]


@dataclass(frozen=True)
class Outcome:
    """What came of one fault and one seed: by which property it was found and at which example, if at all."""

    fault: str
    seed: int
    killed: Killed | None


@dataclass(frozen=True)
class Piece:
    """What a process does at a time: all that is tried of one op with one seed, for which cases are drawn but once.

    wrong: faults, by name. right: variants and unmodified backends, by name.
    """

    op: str
    seed: int
    wrong: Sequence[str] = ()
    right: Sequence[str] = ()


@dataclass
class Measured:
    """What came of pieces; seconds: of the processor."""

    outcomes: list[Outcome] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, other: "Measured") -> None:
        self.outcomes += other.outcomes
        self.verdicts += other.verdicts
        self.seconds += other.seconds

    def judged(self, backends: Iterable[str]) -> int:
        """How many cases of these were judged."""
        return sum(v.judged for v in self.verdicts if v.unit.backend in backends)


def workers(count: int) -> Executor:
    """Processes that begin with a fresh interpreter and one thread each."""
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")
    return ProcessPoolExecutor(count, mp_context=get_context("spawn"), initializer=prepare)


def prepare() -> None:
    """What a process does first."""
    options.register_profiles()
    shared.share()


def do(piece: Piece) -> Measured:
    """A task of a worker."""
    start = time.process_time()
    asked.forget()
    shared.forget()
    verdicts = [judged(unit, piece.seed) for name in piece.right for unit in units(name, piece.op)]
    outcomes = [Outcome(name, piece.seed, tried(faults()[name], piece.seed)) for name in piece.wrong]
    return Measured(outcomes, verdicts, time.process_time() - start)


def done(pool: Executor, pieces: Iterable[Piece], report: Report, of: str) -> Iterator[Measured]:
    """What comes of the pieces, in whatever order they end."""
    tasks = [pool.submit(do, piece) for piece in pieces]
    for i, task in enumerate(as_completed(tasks), 1):
        yield task.result()
        report(f"{of}: {i:,} of {len(tasks):,} pieces")


def measured(
    pool: Executor,
    wrong: dict[str, list[str]],
    right: dict[str, list[str]],
    backends: Sequence[str],
    seeds: Sequence[int],
    cases: int,
    report: Report,
) -> Measured:
    """Every fault with every seed; variants with some of them; backends until so many cases of theirs have been judged.

    wrong, right: faults and variants, by op. backends: unmodified ones, whose cases are much the same; where the seeds are
    too few, they are tried with those that follow.
    """
    whole, before = Measured(), -1
    for i, seed in enumerate(itertools.count(min(seeds))):
        judged_so_far = whole.judged(backends)
        along = backends if before < judged_so_far < cases else ()
        if seed not in seeds and not along:
            break
        before = judged_so_far
        pieces = [
            Piece(op, seed, wrong[op] if seed in seeds else (), [*along, *(right[op] if i < OFTEN else ())])
            for op in wrong
        ]
        for part in done(pool, pieces, report, f"seed {seed}"):
            whole.add(part)
    whole.outcomes.sort(key=lambda o: (o.fault, o.seed))
    return whole
