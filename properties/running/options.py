"""The command-line options of a run; an error in one is reported in a line, without a traceback."""

import math
import re
import sys
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis.errors import InvalidArgument

from gradspec.backends.addresses import suggest_nearest
from gradspec.backends.backend import DTYPES
from gradspec.properties.judging.error_descriptions import make_printable
from gradspec.properties.judging.severity import SEVERITIES
from gradspec.properties.running.list_laws import FOLDER, read_property_sentences
from gradspec.properties.running.profiles import PROFILES

DEFAULT_TIME_LIMIT_SECONDS = 60.0  # a first call may compile kernels

OFTEN_USED_OPTIONS = ("--hypothesis-profile", "--hypothesis-seed", "--junitxml", "--collect-only")
"""Of pytest and Hypothesis, beside gradspec's own."""

XDIST_OPTIONS = re.compile(r"-n\w*|--numprocesses|--dist|--maxprocesses")


def add_options(add: Callable[..., object]) -> None:
    """Add the options of a run by a function that takes what `ArgumentParser.add_argument` does."""
    several = {"action": "append", "default": []}
    add("--backend", **several, help="a backend by name or module:attribute; repeatable")
    add(
        "--op",
        **several,
        help="an op by name (`gradspec ops` lists them), one of your own also as module:name; `programs` "
        "stands for programs and networks; repeatable",
    )
    add("--dtype", **several, help=f"one of {', '.join(DTYPES)}; repeatable")
    add(
        "--shard",
        metavar="I/N",
        help="run the I-th of N parts, into which the ops of each backend are divided",
    )
    add(
        "--budget",
        metavar="TIME",
        help="repeat with fresh examples for this long, e.g. 90s, 10m or 1h30m; most of it goes to the "
        "properties with the fewest informative cases in this and earlier runs",
    )
    add(
        "--laws",
        action="store_true",
        help="print what each law asks, what it does not see, and a fault that it alone catches; then exit",
    )
    add("--matrix", metavar="FILE", help="write the results of the run to this file, as JSON")
    add(
        "--fail-on",
        metavar="SEVERITIES",
        default="wrong,edge,unsafe",
        help=f"which severities make the run fail, separated by commas, of {', '.join(SEVERITIES)}; wrong "
        "stands for raises, too, and the others are listed (default: %(default)s)",
    )
    add(
        "--time-limit",
        metavar="SECONDS",
        type=float,
        default=DEFAULT_TIME_LIMIT_SECONDS,
        help="how long a backend that runs in a process of its own may take to be imported, or for one case "
        "(default: %(default)g)",
    )
    add(
        "--isolate",
        action="store_true",
        help="run every backend in a process of its own (default: all but the built-in ones)",
    )
    add("--no-isolate", action="store_true", help="run every backend in pytest's process")


def check_that_options_exist(parser: pytest.Parser, arguments: list[str]) -> None:
    """Check that each argument that begins with a dash is an option of gradspec, pytest or a plugin.

    Raises:
        pytest.UsageError: One is not; the message names those that are like it, in a line.
    """
    _, unknown = parser.parse_known_and_unknown_args(arguments)
    for option in (argument.partition("=")[0] for argument in unknown if argument.startswith("-")):
        if XDIST_OPTIONS.fullmatch(option):
            raise pytest.UsageError(f"{option}: an option of pytest-xdist, which is not installed")
        raise pytest.UsageError(make_printable(f"{option}: no such option; {_suggest_options(option)}"))


def _suggest_options(option: str) -> str:
    """Return the options most like one that does not exist, or all of gradspec."""
    ours: list[str] = []
    add_options(lambda name, **_: ours.append(name))
    by_name = {name.lstrip("-"): name for name in [*ours, *OFTEN_USED_OPTIONS]}  # all have the dashes
    near = [by_name[name] for name in get_close_matches(option.lstrip("-"), by_name)]
    return f"did you mean {' or '.join(near)}?" if near else f"those of gradspec are {', '.join(ours)}"


def select_allowed_names(option: str, names: list[str], allowed: Iterable[str]) -> list[str]:
    """Return the allowed names that are among the given ones, or all allowed names if none is given.

    Args:
        option: The option that the names are given by, without its dashes.
        names: The given names.
        allowed: The allowed names.

    Raises:
        pytest.UsageError: A given name is not allowed.
    """
    allowed = list(allowed)
    for name in names:
        if name not in allowed:
            raise pytest.UsageError(
                make_printable(f"--{option} {name}: no such {option}; {suggest_nearest(name, allowed)}")
            )
    return [name for name in allowed if name in names or not names]


def get_selected_dtypes(config: pytest.Config) -> list[str]:
    return select_allowed_names("dtype", config.getoption("dtype") or [], DTYPES)


def list_laws(config: pytest.Config) -> list[str]:
    """Return the laws that `known` may name: those of gradspec's properties, and of those of this run."""
    given = (Path(config.invocation_params.dir, arg.split("::")[0]) for arg in config.args)
    files = [f for path in (FOLDER, *given) for f in (path.glob("test_*.py") if path.is_dir() else [path])]
    return [law for f in files if f.is_file() and f.suffix == ".py" for law in read_property_sentences(f)]


def parse_shard(config: pytest.Config) -> tuple[int, int]:
    """Return I and N of `--shard I/N`.

    Raises:
        pytest.UsageError: The option is not of this form, or I is not between 1 and N.
    """
    text = config.getoption("shard") or "1/1"
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    i, n = map(int, match.groups()) if match else (0, 0)
    if not 1 <= i <= n:
        raise pytest.UsageError(f"--shard {make_printable(text)}: expected I/N with 1 <= I <= N, e.g. 2/4")
    return i, n


def parse_budget(config: pytest.Config) -> float | None:
    """Return the seconds of `--budget`; None without the option, when the profile decides how long a run is.

    Raises:
        pytest.UsageError: The option is not a time, or is 0.
    """
    text = config.getoption("budget")
    if text is None:
        return None
    match = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?", text)
    hours, minutes, seconds = (int(n or 0) for n in match.groups()) if match else (0, 0, 0)
    if not (total := 3600 * hours + 60 * minutes + seconds):
        raise pytest.UsageError(
            f"--budget {make_printable(text)}: expected a time above 0, e.g. 90s, 10m or 1h30m"
        )
    return float(total)


def get_time_limit(config: pytest.Config) -> float:
    """Return the seconds that one check may take.

    Raises:
        pytest.UsageError: They are not more than 0.
    """
    seconds = float(config.getoption("time_limit") or 0)
    if not (0 < seconds < math.inf):
        raise pytest.UsageError(f"--time-limit {seconds:g}: expected a number of seconds above 0")
    return seconds


def get_isolation(config: pytest.Config) -> bool | None:
    """Return whether every backend has a process of its own, or none has; None if it depends on the backend.

    Raises:
        pytest.UsageError: Both are asked for.
    """
    every, none = config.getoption("isolate"), config.getoption("no_isolate")
    if every and none:
        raise pytest.UsageError("--isolate --no-isolate: expected one of them, or neither")
    return True if every else False if none else None


def get_failing_severities(config: pytest.Config) -> frozenset[str]:
    """Return the severities that `--fail-on` names; whoever names wrong ones means exceptions, too.

    Raises:
        pytest.UsageError: The option names none, or something else than a severity.
    """
    text = config.getoption("fail_on") or ""
    names = {name.strip() for name in text.split(",")}
    for name in sorted(names - {*SEVERITIES}):
        what = make_printable(f"--fail-on {text}: no such severity as {name!r}")
        raise pytest.UsageError(f"{what}; {suggest_nearest(name, SEVERITIES)}")
    return frozenset(names | {"raises"} if "wrong" in names else names)


def get_matrix_file(config: pytest.Config) -> Path | None:
    file = config.getoption("matrix")
    return Path(config.invocation_params.dir, file) if file else None


def make_own_modules_importable(config: pytest.Config) -> None:
    """Put the folder that the run starts in on the path, as `python -m pytest` does, if it may be needed."""
    here = str(config.invocation_params.dir)
    names = [*(config.getoption("backend") or []), *(config.getoption("op") or [])]
    if any(":" in name for name in names) and here not in sys.path:
        sys.path.insert(0, here)


def check_options(config: pytest.Config) -> None:
    """Check all options but `--backend` and `--op` before anything is loaded.

    Raises:
        pytest.UsageError: An option names something that does not exist, or has a value that is not allowed.
    """
    profile = config.getoption("--hypothesis-profile", None)
    if profile:
        try:
            settings.get_profile(profile)
        except InvalidArgument as error:
            known = suggest_nearest(profile, PROFILES)
            raise pytest.UsageError(
                make_printable(f"--hypothesis-profile {profile}: no such profile; {known}")
            ) from error
    checks = (
        get_selected_dtypes,
        get_failing_severities,
        parse_shard,
        parse_budget,
        get_time_limit,
        get_isolation,
    )
    for check in checks:
        check(config)
