"""Messages: exceptions, exit codes and odd objects of a backend, put into words that are safe to print."""

import linecache
import re
import signal
import traceback
from functools import cache
from pathlib import Path
from typing import Any

import gradspec.backends.backend
import gradspec.properties
import gradspec.reference

MAX_MESSAGE_CHARACTERS = 500  # of what a backend says that a report repeats
MAX_FRAMES_SHOWN = 3  # of the backend's own, innermost last

_OWN_PATHS = (
    *(
        f"{Path(str(file)).resolve().parent}/"
        for file in (gradspec.properties.__file__, gradspec.reference.__file__)
    ),
    str(Path(gradspec.backends.backend.__file__).resolve()),
)
"""Where the code of gradspec lies whose frames tell nothing about a backend."""


def describe_exception(error: BaseException) -> str:
    """Return an exception in a few lines: its type, its message, and the backend's own frames."""
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
    """Return the first line of an exception's message, which may itself fail to be made."""
    try:
        return make_printable(" ".join(str(error).split("\n", 1)[:1]))
    except Exception as second:
        return f"(its message raised {type(second).__name__})"


def describe_exit(status: int | None) -> str:
    """Return how a process with this exit code ended."""
    if status is not None and status < 0:
        return f"the process was killed by {signal.Signals(-status).name}"
    return f"the process exited with status {status}"


def describe_object(x: Any) -> str:
    """Return the start of an object's repr, and its type."""
    try:
        text = make_printable(repr(x).split("\n", 1)[0])
    except Exception:
        text = "something"
    return f"{text if len(text) < 60 else text[:60] + '...'} ({type(x).__name__})"


def make_printable(text: str) -> str:
    """Return the text, not too long, with everything escaped that a terminal or an XML parser obeys."""
    text = text if len(text) <= MAX_MESSAGE_CHARACTERS else text[:MAX_MESSAGE_CHARACTERS] + " ..."
    return re.sub(r"[^\n\x20-\x7e\xa0-\ud7ff\ue000-\ufffd]", lambda c: ascii(c[0])[1:-1], text)


@cache
def _is_own_file(file: str) -> bool:
    return str(Path(file).resolve()).startswith(_OWN_PATHS)


def _shorten_path(file: str) -> str:
    """Return a path below the current folder as relative to it, any other as it is."""
    path = Path(file)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else file
