"""A log of in-place writes, so that no pullback runs on an array that has changed since it was made."""

from collections.abc import Iterator
from types import FunctionType
from typing import Any
from weakref import ref

latest_write_time = 0
"""When the latest write was noted; an op recorded after it is not affected by any write."""

# By the id of the array that owns the memory: when it was written to, and the array itself.
_writes_by_owner: dict[int, tuple[int, "ref[Any]"]] = {}


def note_write(array: Any, when: int) -> None:
    """Note that the memory of `array`, and so of every view of it, was written to at the time `when`."""
    # The backward pass reads the time, and nothing is read faster than a global.
    global latest_write_time  # noqa: PLW0603
    owner = _find_owner(array)
    key = id(owner)
    _writes_by_owner[key] = when, ref(owner, lambda _: _writes_by_owner.pop(key, None))
    latest_write_time = when


def was_overwritten(needed: Any, since: int) -> bool:
    """Return whether memory that is needed was written to after `since`.

    Args:
        needed: a pullback, an array, or a tuple or list of these.
        since: a sequence number of the tape.
    """
    return any(
        _writes_by_owner.get(id(owner), (0,))[0] > since for owner in map(_find_owner, _find_arrays(needed))
    )


def _find_owner(array: Any) -> Any:
    """Return the array that owns the memory: the one at the end of the chain of views."""
    while getattr(array, "base", None) is not None and hasattr(array.base, "shape"):
        array = array.base
    return array


def _find_arrays(needed: Any) -> Iterator[Any]:
    """Yield every array that is needed, also those in the closures and defaults of pullbacks."""
    stack, seen = [needed], set()
    while stack:
        x = stack.pop()
        if id(x) in seen:
            continue
        seen.add(id(x))
        if isinstance(x, FunctionType):
            stack += [cell.cell_contents for cell in x.__closure__ or ()]
            stack += x.__defaults__ or ()
        elif isinstance(x, tuple | list):
            stack += x
        elif hasattr(x, "shape") and hasattr(x, "dtype"):
            yield x
