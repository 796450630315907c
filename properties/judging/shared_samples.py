"""Samples that judges of equal cases share: what the spec gives does not depend on who is judged.

In a run of several backends each meets the same cases of an op. What is exact, and what rounding may make of
it, is computed for the first of them, and kept until the next op.
"""

import hashlib
import pickle
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from gradspec.properties.cases.case import Case

MAX_ELEMENTS_SHARED = 2**21
"""How many elements the inputs of the cases may have, in all, whose samples are kept; the oldest go first."""


class SharedSamples:
    """The samples of the cases that one property draws for one subject."""

    def __init__(self) -> None:
        self._subject: Hashable = None
        self._by_key: dict[Hashable, tuple[int, Any]] = {}
        self._n_elements = 0

    @contextmanager
    def use_for(self, subject: Hashable) -> Iterator[None]:
        """Let judges within the context share what was kept of this subject; of another it is forgotten."""
        if subject != self._subject:
            self._subject = subject
            self._by_key.clear()
            self._n_elements = 0
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)

    def find(self, key: Hashable, n_elements: int, make: Callable[[], Any]) -> Any:
        """Return what is kept under a key; what `make` returns if there is nothing yet."""
        if key not in self._by_key:
            self._by_key[key] = n_elements, make()
            self._n_elements += n_elements
            while self._n_elements > MAX_ELEMENTS_SHARED and len(self._by_key) > 1:
                self._n_elements -= self._by_key.pop(next(iter(self._by_key)))[0]
        return self._by_key[key][1]


_current: ContextVar[SharedSamples | None] = ContextVar("shared_samples", default=None)


def find_shared(case: Case, make: Callable[[], Any]) -> Any:
    """Return what `make` returned for an equal case, or returns now.

    Cases are equal if op, dtype, keywords and the bits of all arrays are; their layouts may differ. What is
    shared keeps the op alive, so that another one cannot be taken for it.
    """
    shared = _current.get()
    if shared is None:
        return make()
    arrays = (*case.inputs, case.cotangent)
    content = pickle.dumps(
        (case.dtype, case.keywords, *((x.shape, x.dtype.str, x.tobytes()) for x in arrays))
    )
    key = id(case.op), hashlib.blake2b(content).digest()
    return shared.find(key, sum(x.size for x in arrays), make)
