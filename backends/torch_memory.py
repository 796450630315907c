"""Memory of torch that nobody has written: full of NaN while a law is judged.

`torch.utils.deterministic.fill_uninitialized_memory` does the same, with the same numbers, but only together
with `torch.use_deterministic_algorithms`, which takes other kernels than those that users run. So the
functions by which a kernel in Python asks for memory are replaced instead, for as long as the context lasts;
the methods of `torch.Tensor` are wrapped at its first use and do nothing else outside of it.
What torch's own C++ allocates stays as it is, and so does what was imported by `from torch import empty`.
"""

import math
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import wraps
from typing import Any

import torch

_FUNCTIONS = ("empty", "empty_like", "empty_permuted", "empty_strided")
"""The functions of torch that give memory which nobody has written."""

_METHODS = ("new_empty", "new_empty_strided")
"""The methods of a tensor that do."""


def fill_with_poison(x: Any, fill: float) -> Any:
    """Fill a tensor with a number, and return it; what cannot be filled is left alone.

    Where that is NaN, integers become the largest one.
    """
    with suppress(RuntimeError, NotImplementedError), torch.no_grad():
        if x.dtype.is_floating_point or x.dtype.is_complex or x.dtype is torch.bool:
            x.fill_(fill)
        else:
            x.fill_(torch.iinfo(x.dtype).max if math.isnan(fill) else int(fill))
    return x


class _Poison:
    """The functions of torch as they are, and as they are while memory is poisoned."""

    def __init__(self) -> None:
        self.lock, self.depth, self.fill = threading.Lock(), 0, math.nan
        self.originals: dict[str, Callable[..., Any]] = {}
        # Made once: torch.compile compiles anew whenever a function it has met is another object.
        self.poisoned = {name: self._poison_results_of(getattr(torch, name)) for name in _FUNCTIONS}

    def enter(self) -> None:
        with self.lock:
            self.depth += 1
            if self.depth == 1:
                self._wrap_methods()
                self.originals = {name: getattr(torch, name) for name in _FUNCTIONS}
                _replace_functions(self.poisoned)

    def leave(self) -> None:
        with self.lock:
            self.depth -= 1
            if not self.depth:
                _replace_functions(self.originals)

    def _wrap_methods(self) -> None:
        """Wrap the methods, once: with every change to a class Python forgets where its attributes are."""
        if not self.originals:
            for name in _METHODS:
                setattr(torch.Tensor, name, self._poison_results_of(getattr(torch.Tensor, name)))

    def _poison_results_of(self, allocate: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function with its results poisoned, between `enter` and `leave` alone."""

        @wraps(allocate)
        def allocate_poisoned(*args: Any, **kwargs: Any) -> Any:
            new = allocate(*args, **kwargs)
            return fill_with_poison(new, self.fill) if self.depth else new

        return allocate_poisoned


def _replace_functions(functions: Mapping[str, Callable[..., Any]]) -> None:
    for name, function in functions.items():
        setattr(torch, name, function)


_poison = _Poison()


@contextmanager
def poison_memory(fill: float = math.nan) -> Iterator[None]:
    """Let memory that Python code gets from torch within this context be full of NaN, or of another number.

    Contexts may be nested and, in several threads, overlap: the last to end restores torch's functions.
    """
    before, _poison.fill = _poison.fill, fill
    _poison.enter()
    try:
        yield
    finally:
        _poison.leave()
        _poison.fill = before
