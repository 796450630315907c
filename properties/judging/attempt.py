"""Trying a law on a case: whatever a backend does short of ending the process comes back as a judgement.

Neither pytest nor Hypothesis: the scripts that reproduce failures call `judged` themselves.
"""

import linecache
import os
import re
import signal
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import numpy as np

import gradspec.backends.backend
import gradspec.properties
import gradspec.reference
from gradspec.backends import Backend
from gradspec.properties.judging.judge import Judgement

Law = Callable[[Backend, Any], Judgement]
"""What a property asks of one case: whether the backend obeys. Exceptions of the backend are failures."""

MAX_MESSAGE_CHARACTERS = 500  # characters of what a backend says that a report repeats
MAX_FRAMES_SHOWN = 3  # of the backend's own, innermost last

_OWN_PATHS = (
    *(
        f"{Path(str(file)).resolve().parent}/"
        for file in (gradspec.properties.__file__, gradspec.reference.__file__)
    ),
    str(Path(gradspec.backends.backend.__file__).resolve()),
)  # whose frames tell nothing about a backend


def judge_case(law: Law, backend: Backend, case: Any) -> Judgement:
    """What the law says of the case; an exception, or a result that is no array, is a disagreement.

    A warning is none, whoever gives it and whatever the filters around say: where they make errors of warnings, one that
    gradspec itself gives, on a Python newer than it, would count against the backend.
    """
    try:
        with warnings.catch_warnings(action="ignore"), np.errstate(all="ignore"), backend.poisoned():
            return law(wrap_in_checks(backend), case)
    except (Exception, SystemExit, GeneratorExit) as error:
        return Judgement("disagree", describe_exception(error), worst=np.inf)


_checked_backends: dict[int, tuple[Backend, Backend]] = {}
"""By identity, for a table of functions has no other."""


@dataclass(frozen=True)
class CrashOrTimeout(Judgement):
    """A disagreement of a check that ended its process, or would not end within so many seconds."""

    time_limit: float = 60.0


def judge_case_in_fork(law: Law, backend: Backend, case: Any, seconds: float = 60.0) -> Judgement:
    """What the law says, from a process of its own; `Ended` if that dies or takes too long."""
    here, there = Pipe(duplex=False)
    pid = os.fork()
    if pid == 0:
        try:
            there.send(judge_case(law, backend, case))
        finally:
            os._exit(0)
    there.close()
    try:
        judgement: Judgement | None = here.recv() if here.poll(seconds) else None
        if judgement is None:
            os.kill(pid, signal.SIGKILL)
    except EOFError:
        return judge_crash(describe_exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])), seconds)
    os.waitpid(pid, 0)
    return judgement or judge_crash(f"was not done after {seconds:g} s", seconds)


def judge_crash(how: str, seconds: float) -> CrashOrTimeout:
    return CrashOrTimeout("disagree", how, worst=np.inf, time_limit=seconds)


def describe_exit(status: int | None) -> str:
    """How a process ended that has this exit code."""
    if status is not None and status < 0:
        return f"the process was killed by {signal.Signals(-status).name}"
    return f"the process exited with status {status}"


def wrap_in_checks(backend: Backend) -> Backend:
    """The backend with the results of its ops and pullbacks checked: TypeError for one that is no array of its own."""
    if id(backend) not in _checked_backends:
        _checked_backends[id(backend)] = backend, _wrap_without_cache(backend)
    return _checked_backends[id(backend)][1]


def _wrap_without_cache(backend: Backend) -> Backend:
    home: set[str] = set()

    def from_numpy(x: Any) -> Any:
        array = backend.from_numpy(x)
        home.update(_get_device(array))
        return array

    def to_numpy(x: Any) -> Any:
        if astray := _get_device(x) - home if home else set():
            raise TypeError(f"a result is on {astray.pop()}, the inputs were on {' and '.join(sorted(home))}")
        try:
            array = backend.to_numpy(x)
        except Exception as error:
            raise TypeError(
                f"{_describe_object(x)} is no array of {backend.name}: {get_message_line(error)}"
            ) from error
        if not isinstance(array, np.ndarray | np.generic) or array.dtype.kind in "OSU":
            raise TypeError(f"{_describe_object(x)} is no array of {backend.name}")
        return array

    def vjp(fn: Callable[..., Any], *inputs: Any) -> Any:
        value, pullback = backend.vjp(fn, *inputs)

        def checked_pullback(g: Any) -> Any:
            gradients = pullback(g)
            if not isinstance(gradients, Sequence) or len(gradients) != len(inputs):
                raise TypeError(
                    f"the pullback returned {_describe_object(gradients)} and not {len(inputs)} gradients"
                )
            return gradients

        return value, checked_pullback

    return replace(backend, from_numpy=from_numpy, to_numpy=to_numpy, vjp=vjp)


def describe_exception(error: BaseException) -> str:
    """An exception in a few lines: its type, what it says, and the backend's own frames."""
    lines = [f"raised {type(error).__name__}: {get_message_line(error)}".rstrip(": ")]
    frames = [
        (f.f_code, line)
        for f, line in traceback.walk_tb(error.__traceback__)
        if not _is_own_file(f.f_code.co_filename)
    ]
    for code, line in frames[-MAX_FRAMES_SHOWN:]:
        text = linecache.getline(code.co_filename, line).strip()
        lines.append(f"  at {_shorten_path(code.co_filename)}:{line} in {code.co_name}: {text}".rstrip(": "))
    return "\n".join(map(make_printable, lines))


def get_message_line(error: BaseException) -> str:
    """What the exception says, in one line."""
    try:
        return make_printable(" ".join(str(error).split("\n", 1)[:1]))
    except Exception as second:  # a __str__ that raises
        return f"(its message raised {type(second).__name__})"


def make_printable(text: str) -> str:
    """The text with nothing in it that a terminal or an XML parser would obey, and not too much of it."""
    text = text if len(text) <= MAX_MESSAGE_CHARACTERS else text[:MAX_MESSAGE_CHARACTERS] + " ..."
    return re.sub(r"[^\n\x20-\x7e\xa0-\ud7ff\ue000-\ufffd]", lambda c: ascii(c[0])[1:-1], text)


@cache
def _is_own_file(file: str) -> bool:
    return str(Path(file).resolve()).startswith(_OWN_PATHS)


def _get_device(x: Any) -> set[str]:
    """Where an array says that it lives; nothing if it does not say."""
    device = getattr(x, "device", None)
    return {str(device)} if device is not None and not callable(device) else set()


def _describe_object(x: Any) -> str:
    try:
        text = make_printable(repr(x).split("\n", 1)[0])
    except Exception:
        text = "something"
    return f"{text if len(text) < 60 else text[:60] + '...'} ({type(x).__name__})"


def _shorten_path(file: str) -> str:
    """A path from here, if that is the shorter."""
    path = Path(file)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else file
