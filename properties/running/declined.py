"""What backends decline, and the subnormal numbers they flush: counted in tallies, shown below the tables."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from rich.text import Text

from gradspec.backends.backend import DTYPES, DeclaredDecline
from gradspec.properties.judging.error_descriptions import make_printable
from gradspec.properties.running.tally import PropertyResult, Tally

MAX_REASONS_SHOWN = 4

K = TypeVar("K")


def format_declined(entries: Iterable[PropertyResult]) -> Iterator[Text]:
    """Yield a line for each op of a backend that declines cases: their share, and the reasons with counts."""
    tallies = _sum_tallies(entries, lambda e: (e.backend, e.op))
    declining = {place: tally for place, tally in tallies.items() if tally.declined}
    for (backend, op), tally in sorted(
        declining.items(), key=lambda item: -item[1].declined / item[1].judged
    ):
        where = f"{make_printable(op)} on {make_printable(backend)}"
        title = "not offered  " if tally.is_not_offered else "declined  "
        share = (
            "every case"
            if tally.is_not_offered
            else f"{_format_share(tally.declined, tally.judged)} of {tally.judged:,} cases"
        )
        yield Text.assemble(
            (title, "yellow"), (where, "bold"), f": {share}: {format_reasons(tally.decline_reasons)}"
        )


def format_reasons(counts: Mapping[str, int]) -> str:
    """Return reasons with how often each was given, the most frequent first."""
    first = Counter(counts).most_common(MAX_REASONS_SHOWN)
    shown = [f"{make_printable(reason)} ({count:,})" for reason, count in first]
    rest = len(counts) - len(first)
    return ", ".join(shown) + (f" and {rest} more" if rest else "")


def _format_share(part: int, whole: int) -> str:
    """Return a share in percent: neither 0% of some nor 100% of not all."""
    rounded = f"{part / whole:.0%}"
    return {"0%": "less than 1%", "100%": "more than 99%"}.get(rounded, rounded)


def format_flushing(entries: Iterable[PropertyResult]) -> Iterator[Text]:
    """Yield a line for each backend that flushes subnormal numbers to zero: the dtypes in which it does."""
    for backend, tally in _sum_tallies(entries, lambda e: e.backend).items():
        if tally.flushing:
            dtypes = ", ".join(dtype for dtype in DTYPES if dtype in tally.flushing)
            yield Text.assemble(
                ("flushes subnormal numbers  ", "yellow"), (make_printable(backend), "bold"), f": {dtypes}"
            )


def find_stale_declines(
    entries: Iterable[PropertyResult], declared: Mapping[str, Sequence[DeclaredDecline]]
) -> list[str]:
    """Return a complaint for each entry of a backend's `declines` by which nothing was declined.

    Args:
        entries: The results of a whole run.
        declared: The entries, by the name of the backend.
    """
    tallies = _sum_tallies(entries, lambda e: (e.backend, e.op))
    passed = {(e.backend, e.op) for e in entries if e.outcome == "passed"}
    return [
        f"{backend}: {d.declaration} is declared to be declined ({d.why}), but no case was: remove it "
        "from `declines`"
        for backend, those in declared.items()
        for d in those
        if (backend, d.op) in passed and d.reason not in tallies[backend, d.op].decline_reasons
    ]


def _sum_tallies(entries: Iterable[PropertyResult], key: Callable[[PropertyResult], K]) -> dict[K, Tally]:
    """Return the sums of the tallies of entries that have the same key."""
    tallies: dict[K, Tally] = defaultdict(Tally)
    for e in entries:
        tallies[key(e)] += e.tally
    return tallies
