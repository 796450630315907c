"""Entries of `known` that never applied: what a backend declares to be wrong, and is not, or is never asked.

Each is a complaint at the end of a whole run: an entry that excuses nothing hides the next real failure.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence

from gradspec.backends.backend import Deviation
from gradspec.properties.running.tally import PropertyResult, to_sentence


def find_stale_deviations(
    results: Iterable[PropertyResult], known: Mapping[str, Sequence[Deviation]]
) -> list[str]:
    """Return a complaint for each declared deviation that was searched for and never showed.

    Where something else failed, or a process was lost before it was searched for, there is no telling.

    Args:
        results: Those of a whole run.
        known: The deviations that each backend declares, by its name.
    """
    complaints = []
    for backend, d in _iterate_deviations(known):
        of_entry = [e for e in results if (e.backend, e.op) == (backend, d.op) and _covers(d, e)]
        marks = [e.tally.deviations.get(d.declaration) for e in of_entry]
        if False not in marks or any(_may_hide(e, m) for e, m in zip(of_entry, marks, strict=True)):
            continue
        was_declined = all(e.outcome == "declined" for e in of_entry)
        what = "every case was declined" if was_declined else "agreed in every case"
        complaints.append(_complain(backend, d, what))
    return complaints


def find_unreachable_deviations(
    results: Iterable[PropertyResult], known: Mapping[str, Sequence[Deviation]], laws: Collection[str]
) -> list[str]:
    """Return a complaint for each declared deviation that no run can come to.

    Its law is not asked of its op, or an earlier entry excuses all that it does.

    Args:
        results: Those of a run of all dtypes.
        known: The deviations that each backend declares, by its name.
        laws: The sentences of all laws that the run tried on whatever they are asked of.
    """
    tried = {(e.backend, e.op, law) for e in results for law in ("", to_sentence(e.property))}
    complaints = []
    for backend, d in _iterate_deviations(known):
        earlier = [e for e in known[backend] if e.op == d.op]
        earlier = earlier[: earlier.index(d)]
        covering = next((e.declaration for e in earlier if _excuses_all_of(e, d)), None)
        if covering is not None:
            complaints.append(_complain(backend, d, f"{covering!r}, which stands before it, covers it"))
        elif (backend, d.op, "") in tried and d.law in laws and (backend, d.op, d.law) not in tried:
            complaints.append(_complain(backend, d, f"this law is not asked of {d.op}"))
    return complaints


def _iterate_deviations(known: Mapping[str, Sequence[Deviation]]) -> Iterable[tuple[str, Deviation]]:
    return ((backend, d) for backend, deviations in known.items() for d in deviations)


def _covers(d: Deviation, result: PropertyResult) -> bool:
    return d.law in ("", to_sentence(result.property))


def _may_hide(result: PropertyResult, mark: bool | None) -> bool:
    """Return whether a deviation showed in a result, or might have, had it been searched for.

    Args:
        result: The result.
        mark: Whether it showed; None where it was not searched for.
    """
    return bool(mark) or (mark is None and result.outcome in ("failed", "known", "skipped"))


def _excuses_all_of(earlier: Deviation, d: Deviation) -> bool:
    covers_dtypes = not earlier.dtypes or (bool(d.dtypes) and d.dtypes <= earlier.dtypes)
    return earlier.law in ("", d.law) and covers_dtypes


def _complain(backend: str, d: Deviation, what: str) -> str:
    return f"{backend}: {d.declaration} is declared to deviate ({d.why}), but {what}: remove it from `known`"
