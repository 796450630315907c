"""Memory of torch that nobody has written: full of NaN while a law is judged.

`torch.utils.deterministic.fill_uninitialized_memory` does the same, with the same numbers, but only together
with `torch.use_deterministic_algorithms`, which takes other kernels than those that users run. So the
functions by which a kernel in Python asks for memory are replaced instead, for as long as the context lasts;
the methods of `torch.Tensor` are wrapped at its first use and do nothing else outside of it.
What torch's own C++ allocates stays as it is, and so does what was imported by `from torch import empty`.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache, wraps
from typing import Any

import torch

_FUNCTIONS = ("empty", "empty_like", "empty_permuted", "empty_strided")
"""The functions of torch that give memory which nobody has written."""

_METHODS = ("new_empty", "new_empty_strided")
"""The methods of a tensor that do."""


def fill_with_poison(x: Any) -> Any:
    """Fill a tensor with NaN, integers with the largest one, and return it; what cannot be is left alone."""
    with suppress(RuntimeError, NotImplementedError), torch.no_grad():
        if x.dtype.is_floating_point or x.dtype.is_complex:
            x.fill_(torch.nan)
        else:
            x.fill_(True if x.dtype is torch.bool else torch.iinfo(x.dtype).max)
    return x


def _poison_results_of(allocate: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function with its results poisoned, within `poison_memory` alone."""

    @wraps(allocate)
    def allocate_poisoned(*args: Any, **kwargs: Any) -> Any:
        return fill_with_poison(allocate(*args, **kwargs)) if _depth else allocate(*args, **kwargs)

    return allocate_poisoned


_lock = threading.Lock()
_depth = 0
_originals: dict[str, Callable[..., Any]] = {}
# Made once: torch.compile compiles anew whenever a function it has met is another object.
_poisoned = {name: _poison_results_of(getattr(torch, name)) for name in _FUNCTIONS}


@contextmanager
def poison_memory() -> Iterator[None]:
    """Let memory that Python code gets from torch within this context be full of NaN.

    Contexts may be nested and, in several threads, overlap: the last to end restores torch's functions.
    """
    _enter()
    try:
        yield
    finally:
        _leave()


def _enter() -> None:
    global _depth
    with _lock:
        _depth += 1
        if _depth == 1:
            _wrap_methods()
            _originals.update({name: getattr(torch, name) for name in _FUNCTIONS})
            vars(torch).update(_poisoned)


def _leave() -> None:
    global _depth
    with _lock:
        _depth -= 1
        if not _depth:
            vars(torch).update(_originals)


@cache
def _wrap_methods() -> None:
    """Wrap the methods, for good: with every change to a class Python forgets what it knows of all its others."""
    for name in _METHODS:
        setattr(torch.Tensor, name, _poison_results_of(getattr(torch.Tensor, name)))
