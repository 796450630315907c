"""Messages: exceptions, exit codes and odd objects of a backend, put into words that are safe to print."""

import linecache
import re
import signal
import traceback
import unicodedata
from functools import cache
from pathlib import Path
from typing import Any

import gradspec.backends.backend
import gradspec.properties
import gradspec.reference

MAX_MESSAGE_CHARACTERS = 500  # of what a backend says that a report repeats
MAX_FRAMES_SHOWN = 3  # of the backend's own, innermost last
MAX_INTERNAL_FRAMES_SHOWN = 6

_OBEYED_CATEGORIES = {"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"}

_BLANK_LETTERS = {*map(chr, (0x34F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x3164, 0xFFA0, *range(0xFE00, 0xFE10)))}
"""Letters and marks that are shown as nothing, or choose how the one before is shown."""

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
    lines = [f"raised {get_class_name(error)}: {get_message_line(error)}".rstrip(": ")]
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
    except KeyboardInterrupt:  # for all that can be told here, Ctrl-C
        raise
    except BaseException as second:
        return f"(its message raised {get_class_name(second)})"


def get_class_name(x: Any) -> str:
    """Return the name of the class of an object, whatever its metaclass says."""
    name: str = vars(type)["__name__"].__get__(type(x))
    return name


def describe_exit(status: int | None) -> str:
    """Return how a process with this exit code ended."""
    if status is not None and status < 0:
        known = {s.value: s.name for s in signal.Signals}  # not those for real-time use
        return f"the process was killed by {known.get(-status, f'signal {-status}')}"
    return f"the process exited with status {status}"


def describe_object(x: Any) -> str:
    """Return the start of an object's repr, and its type."""
    try:
        text = make_printable(repr(x).split("\n", 1)[0])
    except KeyboardInterrupt:  # for all that can be told here, Ctrl-C
        raise
    except BaseException:
        text = "something"
    return f"{text if len(text) < 60 else text[:60] + '...'} ({get_class_name(x)})"


def make_printable(text: str) -> str:
    """Return the text, not too long, with everything escaped that a terminal or an XML parser obeys.

    That is what Unicode calls control characters, line ends other than a newline, and formats, such as those
    that turn the order of what follows; and whatever cannot be seen.
    """
    text = text if len(text) <= MAX_MESSAGE_CHARACTERS else text[:MAX_MESSAGE_CHARACTERS] + " ..."
    return re.sub(r"[^\n\x20-\x7e]", lambda c: c[0] if _is_visible(c[0]) else ascii(c[0])[1:-1], text)


def _is_visible(character: str) -> bool:
    invisible = unicodedata.category(character) in _OBEYED_CATEGORIES or character in _BLANK_LETTERS
    return not invisible and character <= "\ufffd"


def describe_internal_error(error: BaseException) -> str:
    """Return in a few lines why a property could not be tested: an exception, and its innermost frames.

    It is not one that a law met, but may follow from what the backend has changed. The frames are anyone's.
    """
    lines = [f"could not be tested: {get_class_name(error)}: {get_message_line(error)}".rstrip(": ")]
    for frame, line in [*traceback.walk_tb(error.__traceback__)][-MAX_INTERNAL_FRAMES_SHOWN:]:
        lines.append(f"  at {_shorten_path(frame.f_code.co_filename)}:{line} in {frame.f_code.co_name}")
    return "\n".join(map(make_printable, lines))


@cache
def _is_own_file(file: str) -> bool:
    return str(Path(file).resolve()).startswith(_OWN_PATHS)


def _shorten_path(file: str) -> str:
    """Return a path below the current folder as relative to it, any other as it is."""
    path = Path(file)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else file
