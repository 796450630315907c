"""What a library offers to be verified: a table of ops and one function that differentiates through them."""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any

from gradspec.reference import OPS, Op

DTYPES = ("float64", "float32", "bfloat16", "float16")
"""The dtypes a backend may be verified in, by name, widest first; NumPy's bfloat16 is that of `ml_dtypes`."""


class Unavailable(Exception):
    """A backend that cannot run here; the message says why in one line, such as "torch:cuda: no CUDA device"."""


@dataclass(frozen=True)
class Deviation:
    """Where a backend is known to deviate from the spec, and why.

    where: as it is declared. rule: the one property that it breaks, as a sentence; "" for all. dtypes: those it breaks
    it in; none for all.
    """

    declaration: str
    op: str
    law: str
    dtypes: frozenset[str]
    why: str

    def excuses(self, dtype: str) -> bool:
        """Whether a failure in this dtype is what was declared."""
        return not self.dtypes or dtype in self.dtypes

    @classmethod
    def parse(cls, where: str, why: str) -> "Deviation":
        """That of a line of `Backend.known`: "op", "op: property", or either with "op[dtype, dtype]"."""
        what, _, rule = where.partition(": ")
        op, *dtypes = re.findall(r"[^\[\],\s]+", what) or [""]
        return cls(where, op, rule, frozenset(dtypes), why)


def _nothing_to_wait_for() -> None:
    pass


@dataclass(frozen=True, eq=False)
class Backend:
    """A library, or a handful of hand-written kernels, to be verified against the spec.

    name: what it is called, such as "torch" or "my-kernels".
    ops: for each op of the spec that it offers, by name, its forward on arrays of its own. Array data is positional,
        metadata goes by the spec's keywords, and ops that take a sequence of arrays (concat, stack) take just one; see
        `call`. What is absent is not offered: nothing falls back to another implementation.
    vjp: `vjp(fn, *inputs) -> (value, pullback)` for any composition fn of the ops at floating-point inputs;
        `pullback(g)`, which may be called several times, is one gradient per input, of its shape and dtype and in memory
        of its own, zeros where the value does not depend on it. It raises for a cotangent of another shape than the
        value's. A later write to an input, the value or a gradient does not change what it gives: it may raise instead.
    from_numpy: its array of the elements of a NumPy array, floating-point, int64 or bool, laid out likewise where it can be.
    to_numpy: the inverse, for any array that the ops, `vjp` and pullbacks return.
    synchronize: returns when all work handed to the device is done.
    poisoned: a context within which memory that is allocated and not filled is NaN, so that an element which a kernel
        leaves out does not pass for the right one that an earlier call left there. Nothing is, unless given.
    dtypes: which of the `DTYPES` it is verified in.
    known: for ops that deviate from the spec, why, with a link. They are expected to fail, and reported once they do not.
        "pow: second derivatives agree" in place of "pow" speaks of one property alone, and "exp[bfloat16]" or
        "exp[bfloat16]: value agrees" of some dtypes: in the others nothing is excused.
    device: where its arrays live.
    nests: whether `vjp` may be called within the fn of another `vjp`, which gives second derivatives: with respect to
        the inputs of both and to the cotangent of the inner one.

    Raises ValueError for ops and dtypes that do not exist and for a known deviation of an op that is not offered.
    """

    name: str
    ops: Mapping[str, Callable[..., Any]]
    vjp: Callable[..., Any]
    from_numpy: Callable[[Any], Any]
    to_numpy: Callable[[Any], Any]
    synchronize: Callable[[], None] = _nothing_to_wait_for
    poisoned: Callable[[], AbstractContextManager[Any]] = nullcontext
    dtypes: Collection[str] = frozenset({"float64", "float32"})
    known: Mapping[str, str] = field(default_factory=dict)
    device: str = "cpu"
    nests: bool = False

    def __post_init__(self) -> None:
        _check_names(f"backend {self.name!r}: the spec has no op", self.ops, OPS)
        deviations = self.deviations
        known = [d.op for d in deviations]
        _check_names(
            f"backend {self.name!r}: a deviation is known of what is not among its ops:", known, self.ops
        )
        dtypes = [name for d in deviations for name in sorted(d.dtypes)]
        _check_names(
            f"backend {self.name!r}: a deviation is known in a dtype it is not verified in:",
            dtypes,
            self.dtypes,
        )
        _check_names(f"backend {self.name!r}: there is no dtype", self.dtypes, DTYPES)
        object.__setattr__(self, "ops", MappingProxyType(dict(self.ops)))
        object.__setattr__(self, "known", MappingProxyType(dict(self.known)))
        object.__setattr__(self, "dtypes", frozenset(self.dtypes))

    def __repr__(self) -> str:
        return f"<backend {self.name}: {len(self.ops)} ops>"

    @property
    def deviations(self) -> list[Deviation]:
        """What is `known`, a line each."""
        return [Deviation.parse(where, why) for where, why in self.known.items()]

    def with_ops(
        self,
        *,
        name: str,
        dtypes: Collection[str] | None = None,
        known: Mapping[str, str] | None = None,
        **ops: Callable[..., Any],
    ) -> "Backend":
        """A backend of just these ops, say hand-written kernels, on this one's arrays and through its `vjp`.

        dtypes: those of this backend unless given. known: nothing unless given, since deviations of the library's ops
        are not those of the kernels.
        """
        return replace(
            self,
            name=name,
            ops=ops,
            dtypes=self.dtypes if dtypes is None else dtypes,
            known=known or {},
        )


def call(op: Op, fn: Callable[..., Any], arrays: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
    """fn, some implementation of the op, called as the op is: with its arrays, or with one sequence of them."""
    return fn(tuple(arrays), **keywords) if op.variadic else fn(*arrays, **keywords)


def suggest_nearest(name: str, names: Iterable[str]) -> str:
    """The names most like this one, to end an error with; all of them where none is alike."""
    names = sorted(names)
    alike = get_close_matches(name, names, cutoff=0.5)
    return f"did you mean {' or '.join(map(repr, alike))}?" if alike else f"there are {', '.join(names)}"


def _check_names(complaint: str, names: Iterable[str], allowed: Collection[str]) -> None:
    if isinstance(names, str):
        raise TypeError(f"{complaint.split(':')[0]}: {names!r} is one name, not a collection of names")
    for name in names:
        if name not in allowed:
            raise ValueError(f"{complaint} {name!r}; {suggest_nearest(name, allowed)}")
