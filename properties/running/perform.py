"""One property tried on one subject, in this process: with the settings of the run, and with no word of Hypothesis."""

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hypothesis import Phase, Verbosity, settings
from hypothesis.errors import Flaky

from gradspec.backends.backend import Deviation
from gradspec.properties.drawing.hypothesis_internals import get_settings, set_database_key, set_settings
from gradspec.properties.judging.judge import Judgement
from gradspec.properties.running.failure import LawViolation
from gradspec.properties.running.options import is_thorough
from gradspec.properties.running.targets import BackendUnderTest

MIN_EXAMPLES_FOR_DEVIATION = (
    100  # at the least, of each property, before a deviation of an op that is declared counts as gone
)
MIN_EXAMPLES_FOR_ONE_LAW = 800  # where it is declared of one property, which alone must come upon it; the first that shows it is the last


def perform_property(
    function: Callable[..., Any],
    arguments: Mapping[str, Any],
    target: BackendUnderTest,
    database_key: str,
    seconds: float | None = None,
    profile: Mapping[str, Any] | None = None,
) -> None:
    """Call a test under @given; Disagreement, on the simplest case found, if the backend breaks its law.

    A deviation that is declared is sought in the dtypes it is declared in, once the others were found sound.
    key: what examples are kept under in the database. seconds: repeat with fresh examples for so long. profile: what
    `profile_of` returns of the test's twin in another process.
    """
    set_database_key(function, database_key)
    before = get_settings(function)
    asked = settings(before, **profile or {})
    end = time.monotonic() + (seconds or 0)
    known = None
    try:
        for known, dtypes in _split_dtypes(target, function.__name__):
            chosen = _derive_settings(asked, known, seconds)
            set_settings(function, chosen)
            # No filter makes an error of a warning that gradspec gives while cases are drawn; `judged` sees to the rest.
            with target.restrict_dtypes(dtypes), warnings.catch_warnings(action="ignore"):
                function(**arguments)
                while time.monotonic() < end:
                    function(**arguments)
    except BaseException as error:
        if target.failure is None or isinstance(error, KeyboardInterrupt):
            raise
        raise _choose_violation(target, error, known is not None) from None
    finally:
        set_settings(function, before)
    target.require_informative_cases()


def _split_dtypes(target: BackendUnderTest, test: str) -> list[tuple[Deviation | None, Sequence[str]]]:
    """The dtypes apart in which the backend is known to deviate and those in which it is not."""
    sound = target.list_sound_dtypes(test)
    excused = [dtype for dtype in target.dtypes if dtype not in sound]
    parts = (None, sound), (target.find_deviation(test), excused)
    return [(known, dtypes) for known, dtypes in parts if dtypes]


def extract_settings(function: Callable[..., Any]) -> dict[str, Any]:
    """The settings of a test that another process needs to know."""
    own = get_settings(function)
    names = ("max_examples", "derandomize", "phases", "verbosity", "deadline", "suppress_health_check")
    return {name: getattr(own, name) for name in names} | ({"database": None} if own.database is None else {})


def _derive_settings(parent: settings, known: Deviation | None, seconds: float | None) -> settings:
    """Those of the test; a deviation that is declared is sought for long, but not shrunk.

    Without what Hypothesis would say of a failure: explaining takes ten times as long as shrinking.
    """
    least = 0
    if known and is_thorough(parent):
        least = MIN_EXAMPLES_FOR_ONE_LAW if known.law else MIN_EXAMPLES_FOR_DEVIATION
    return settings(
        parent,
        phases=[
            p
            for p in parent.phases
            if p not in ((Phase.shrink, Phase.explain) if known else (Phase.explain,))
        ],
        max_examples=max(parent.max_examples, least),
        derandomize=parent.derandomize and seconds is None,
        verbosity=Verbosity.quiet if parent.verbosity is Verbosity.normal else parent.verbosity,
        print_blob=False,
    )


def _choose_violation(target: BackendUnderTest, error: BaseException, known: bool) -> LawViolation:
    """The failure to show, whatever Hypothesis made of it."""
    assert target.failure is not None
    if known:
        return target.failure
    if isinstance(error, Flaky):
        broken, judgement = target.failure, target.failure.judgement
        reason = f"{judgement.reason}\n  but not when tried again: it is nondeterministic, or depends on earlier calls"
        return LawViolation(
            broken.law, broken.backend, broken.case, Judgement("disagree", reason, worst=judgement.worst)
        )
    return target.simplify_failure() or target.failure
