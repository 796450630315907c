"""One property tried on one target in this process, with the settings of the run, silencing Hypothesis."""

import itertools
import time
import warnings
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hypothesis import Phase, Verbosity, settings
from hypothesis.errors import Flaky

from gradspec.backends.backend import Deviation
from gradspec.properties.drawing.hypothesis_internals import (
    get_global_seed,
    get_settings,
    ignore_source_constants,
    set_database_key,
    set_global_seed,
    set_settings,
)
from gradspec.properties.running.failure import LawViolation, combine_violations
from gradspec.properties.running.profiles import is_thorough
from gradspec.properties.running.search import Search
from gradspec.properties.running.targets import BackendUnderTest
from gradspec.properties.running.time_left import OutOfTimeError, TimeLeft

MIN_EXAMPLES_FOR_OP_DEVIATION = 50
"""Examples that each property tries, at least, before a declared deviation of an op counts as stale."""

MIN_EXAMPLES_FOR_LAW_DEVIATION = 400
"""The same where it is declared for one property, which alone must find it and stops at the first failure."""


def perform_property(
    function: Callable[..., Any],
    arguments: Mapping[str, Any],
    target: BackendUnderTest,
    database_key: str,
    seconds: float | None = None,
    profile: Mapping[str, Any] | None = None,
    max_seconds: float = float("inf"),
    replays: bool = False,
) -> bool:
    """Call a test under @given.

    Each declared deviation is searched for in the dtypes it is declared in, once the other dtypes have
    passed; a violation of any severity stands for it, and the tally notes whether there was one. Elsewhere,
    once something has failed, the test is called again to search for failures of other kinds, until none is
    left.

    Args:
        function: The test.
        arguments: What to call it with, by name.
        target: The one of the arguments that the property is tried on.
        database_key: The key of the test's examples in Hypothesis' database.
        seconds: How long to repeat the test with fresh examples, and no longer; None to call it once.
        profile: Settings to replace the test's own: what `extract_settings` returned for it in another
            process.
        max_seconds: How long it may take in all, the search for the smallest case of a failure included.
        replays: Whether examples that failed are kept and tried again, although there is a global seed.

    Returns:
        Whether there was time for as many examples as the settings ask for.

    Raises:
        LawViolation: The backend breaks the law; the case is the simplest one found. It is the worst of all,
            and has the others with it.
        AssertionError: Hardly any case could have failed.
    """
    set_database_key(function, database_key, despite_seed=replays)
    before = get_settings(function)
    parent = settings(before, **profile or {})
    parts = _split_dtypes_by_deviation(target, function.__name__)
    judge = target.judge_case
    is_complete = True
    expected: list[LawViolation] = []
    time_left = TimeLeft(seconds, max_seconds)
    target.judge_case = time_left.bound(target)
    try:
        for k, (known, dtypes) in enumerate(parts):
            time_left.begin_part(k, len(parts))
            set_settings(function, _derive_settings(parent, known, seconds))
            # No filter turns a warning of gradspec's into an error while cases are drawn; `judge_case` sees
            # to the rest.
            with (
                target.restrict_dtypes(dtypes),
                warnings.catch_warnings(action="ignore"),
                ignore_source_constants(),
            ):
                violations, has_ended = _find_violations(
                    target, function, arguments, database_key, replays, time_left, known is not None
                )
            is_complete &= has_ended
            if violations and known is None:
                raise combine_violations(violations)
            if known is not None:  # the next entry of `known` is searched for as well
                target.tally.note_deviation(known.declaration, shows=bool(violations))
                expected += violations
        if expected:
            raise expected[0]
    finally:
        target.judge_case = judge
        set_settings(function, before)
        target.search = None
    if measures_margin(function) and time_left.has_any:
        target.measure_margin()
    target.require_informative_cases()
    return is_complete


def _find_violations(
    target: BackendUnderTest,
    function: Callable[..., Any],
    arguments: Mapping[str, Any],
    database_key: str,
    replays: bool,
    time_left: TimeLeft,
    known: bool,
) -> tuple[list[LawViolation], bool]:
    """Search for one violation of each kind, or any single one where a deviation is declared.

    Returns:
        The violations, and whether there was time for as many examples as the settings ask for.
    """
    target.search = search = Search(any_severity=known)
    is_complete = True
    for run in itertools.count(1):
        target.failure = search.pursued = None
        time_left.begin_run()
        try:
            is_complete &= _repeat_until(time_left.end if run == 1 else 0, function, arguments, target)
        except BaseException as error:
            if target.failure is None or isinstance(error, KeyboardInterrupt):
                raise
            time_left.allow_simplifying()
            search.found.append(_choose_violation(target, error, known))
            target.announce(search.found[-1])
            if known:
                break
        else:
            if search.edges or not search.list_unexplained():
                break
            search.edges = True
        # Under the same key Hypothesis would forget the example that failed, as it now passes.
        set_database_key(function, f"{database_key}, run {run + 1}", despite_seed=replays)
    for violation, find_simpler_case in [] if known else search.list_unexplained():
        target.failure, target.find_simpler_case = violation, find_simpler_case
        search.found.append(_simplify_in_time(target) or violation)
    return search.found, is_complete


def derive_seed(op: str, name: str, seed: Any) -> int:
    """Return the seed of a property on an op, given that of the run.

    Every backend meets the same cases of an op, and each property others. The measurement of sensitivity
    draws those of a run with its seed.

    Args:
        op: The name of the op, or what else the property is tried on.
        name: The name of the test.
        seed: The seed of the run.
    """
    return zlib.crc32(f"{seed} {op} {name}".encode())


def measures_margin(function: Callable[..., Any]) -> bool:
    """Return whether a property is marked to say how near its cases came to what is allowed."""
    return any(mark.kwargs.get("margin") for mark in getattr(function, "pytestmark", ()))


def _repeat_until(
    end: float, function: Callable[..., Any], arguments: Mapping[str, Any], target: BackendUnderTest
) -> bool:
    """Call a test under @given, then again with fresh examples until this time: with a seed, from others.

    Returns:
        Whether the first call had time to return.
    """
    seed, repetition = get_global_seed(), 0
    try:
        while True:
            function(**arguments)
            repetition += 1
            if time.monotonic() >= end:
                return True
            if seed is not None:
                set_global_seed(f"{seed}, repetition {repetition}")
    except OutOfTimeError:
        if target.failure:
            raise
        return repetition > 0
    finally:
        set_global_seed(seed)


def _split_dtypes_by_deviation(
    target: BackendUnderTest, test: str
) -> list[tuple[Deviation | None, Sequence[str]]]:
    """Return the dtypes without a declared deviation, then those of each deviation, with the deviation."""
    deviations = {dtype: target.find_deviation(test, dtype) for dtype in target.dtypes}
    parts: dict[str, tuple[Deviation | None, list[str]]] = {}
    for dtype, known in sorted(deviations.items(), key=lambda item: item[1] is not None):
        parts.setdefault(known.declaration if known else "", (known, []))[1].append(dtype)
    return [*parts.values()]


def extract_settings(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the settings of a test that another process needs to know."""
    own = get_settings(function)
    names = ("max_examples", "derandomize", "phases", "verbosity", "deadline", "suppress_health_check")
    with warnings.catch_warnings(action="ignore"):  # Hypothesis' own, where its folder cannot be written
        has_database = own.database is not None
    return {name: getattr(own, name) for name in names} | ({} if has_database else {"database": None})


def _derive_settings(parent: settings, known: Deviation | None, seconds: float | None) -> settings:
    """Return the settings to run a test with, derived from its own.

    Hypothesis explains no failure, which takes ten times as long as shrinking, and prints none. A declared
    deviation gets more examples, but is not shrunk. A seed that is asked for counts even under CI, where each
    test otherwise has one of its own.

    Args:
        parent: The settings of the test.
        known: The declared deviation that is searched for, if any.
        seconds: How long the test is repeated with fresh examples, if it is.
    """
    min_examples = 0
    if known and is_thorough(parent):
        min_examples = MIN_EXAMPLES_FOR_LAW_DEVIATION if known.law else MIN_EXAMPLES_FOR_OP_DEVIATION
    omitted_phases = (Phase.shrink, Phase.explain) if known else (Phase.explain,)
    return settings(
        parent,
        phases=[phase for phase in parent.phases if phase not in omitted_phases],
        max_examples=max(parent.max_examples, min_examples),
        derandomize=parent.derandomize and seconds is None and get_global_seed() is None,
        verbosity=Verbosity.quiet if parent.verbosity is Verbosity.normal else parent.verbosity,
        print_blob=False,
    )


def _choose_violation(target: BackendUnderTest, error: BaseException, known: bool) -> LawViolation:
    """Return the violation to report, whatever error Hypothesis raised for it."""
    assert target.failure is not None
    if known:
        return target.failure
    if isinstance(error, Flaky):
        return target.failure.as_flaky()
    return _simplify_in_time(target) or target.failure


def _simplify_in_time(target: BackendUnderTest) -> LawViolation | None:
    """Return the last failure on the simplest case that there is time to find."""
    try:
        return target.simplify_failure()
    except OutOfTimeError:
        return target.failure
