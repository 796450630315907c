"""`Backend`, what a library under test offers: a table of ops and a function that differentiates them."""

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from types import MappingProxyType
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement

from gradspec.backends.addresses import OpTable, suggest_nearest
from gradspec.reference import Op

DTYPES = ("float64", "float32", "bfloat16", "float16")
"""The dtypes that a backend may be verified in, by name, widest first; bfloat16 is that of `ml_dtypes`."""


class Unavailable(Exception):
    """A backend cannot run here; the message says why in one line, such as "torch:cuda: no CUDA device"."""


class Declined(NotImplementedError):
    """An op does not offer this call; raised by its forward or its pullback, with the reason.

    A plain `NotImplementedError` says the same. Declined calls are counted and shown with their reasons.
    """


@dataclass(frozen=True)
class Deviation:
    """One entry of a backend's `known`: where it deviates from the spec, and why.

    Attributes:
        declaration: the key of the entry, as written, such as "exp[bfloat16]: value agrees".
        op: the op as written; among a backend's `deviations` its address.
        law: the one law that the op breaks, as a sentence; "" for all laws.
        dtypes: the names of the dtypes in which it does; empty for all dtypes.
        why: the reason, with a link.
        is_of_this_version: whether the installed version of a library is one that the entry is about.
    """

    declaration: str
    op: str
    law: str
    dtypes: frozenset[str]
    why: str
    is_of_this_version: bool = True

    def excuses(self, dtype: str) -> bool:
        """Return whether a failure in this dtype is expected."""
        return not self.dtypes or dtype in self.dtypes

    @classmethod
    def parse(cls, where: str, why: str) -> "Deviation":
        """Parse an entry of `Backend.known`.

        Args:
            where: "op" or "op: law", either with "op[dtype, dtype]", and before the colon with the versions
                of a library that it is about, as in "op (torch>=2.10,<2.13): law".
            why: the reason.

        Raises:
            ValueError: for versions that cannot be understood, or of a library that is not installed.
        """
        target, _, law = where.partition(": ")
        ops_and_dtypes, is_versioned, versions = target.partition("(")
        op, dtypes = _parse_target(ops_and_dtypes)
        fits = not is_versioned or cls._fits_installed_version(where, versions)
        return cls(where, op, law, dtypes, why, fits)

    @staticmethod
    def _fits_installed_version(where: str, versions: str) -> bool:
        """Return whether the installed version of a library is among those named in an entry of `known`."""
        try:
            requirement = Requirement(versions.removesuffix(")"))
        except InvalidRequirement as error:
            complaint = str(error).split("\n")[0]
            raise ValueError(f"`known` names {where!r}, whose versions are malformed: {complaint}") from None
        try:
            installed = version(requirement.name)
        except PackageNotFoundError:
            raise ValueError(f"`known` names {where!r}, and {requirement.name} is not installed") from None
        if not requirement.specifier or requirement.marker or not versions.endswith(")"):
            raise ValueError(f"`known` names {where!r}; expected a library and versions, as in (jax<0.13)")
        return requirement.specifier.contains(installed, prereleases=True)


@dataclass(frozen=True)
class DeclaredDecline:
    """One entry of a backend's `declines`: an op that does not offer every call, and why.

    Attributes:
        declaration: the key of the entry, as written, such as "matmul[float16]".
        op: the op as written; among a backend's `declared_declines` its address.
        dtypes: the names of the dtypes in which it declines calls; empty for all dtypes.
        why: the reason.
    """

    declaration: str
    op: str
    dtypes: frozenset[str]
    why: str

    @property
    def reason(self) -> str:
        """The reason that reports show, the same for all calls that the entry covers."""
        return f"{self.declaration}: {self.why}"

    @classmethod
    def parse(cls, where: str, why: str) -> "DeclaredDecline":
        """Parse an entry of `Backend.declines`: "op" or "op[dtype, dtype]"."""
        return cls(where, *_parse_target(where), why)


def _parse_target(target: str) -> tuple[str, frozenset[str]]:
    """Parse "op" or "op[dtype, dtype]" to the name of the op and those of the dtypes."""
    op, *dtypes = re.findall(r"[^\[\],\s]+", target) or [""]
    return op, frozenset(dtypes)


def _nothing_to_wait_for() -> None:
    pass


@dataclass(frozen=True, eq=False)
class Backend:
    """A library, or a handful of hand-written kernels, to be verified against the spec.

    Attributes:
        name: its name, such as "torch" or "my-kernels".
        ops: for each op that it offers, by its name or address or the op itself, the function that computes
            it on arrays of the backend; as an attribute, by address (see `OpTable`). Arrays are positional,
            metadata goes by the spec's keywords, and ops that take a sequence of arrays (concat, stack) take
            exactly one; see `call`. An absent op is not offered: nothing falls back to another
            implementation.
        vjp: `vjp(fn, *inputs) -> (value, pullback)` for any composition fn of the ops at floating-point
            inputs. `pullback(g)` may be called several times. It returns one gradient per input, with the
            input's shape and dtype and in memory of its own, zeros where the value does not depend on the
            input. It raises for a cotangent whose shape is not that of the value. A later write to an input,
            the value or a gradient does not change its result; it may raise instead.
        from_numpy: converts a NumPy array (floating-point, int64 or bool) to an array of the backend with the
            same elements and, where possible, the same layout. What the ops, `vjp` and pullbacks return must
            have the class of what it returns, a subclass or a superclass of it.
        to_numpy: the inverse, for any array that the ops, `vjp` and pullbacks return.
        synchronize: waits until the device has done all its work.
        poisoned: a context within which newly allocated memory is full of NaN, so that an element which a
            kernel leaves unwritten cannot pass for the right one left there by an earlier call. By default it
            does nothing. It may take a number to fill with in place of NaN: a NaN that changes with it is
            reported as memory that was never written.
        dtypes: which of the `DTYPES` it is verified in.
        known: known deviations from the spec, each with the reason and a link. They are expected to fail, and
            reported once they pass. "pow: second derivatives agree" in place of "pow" excuses one law alone;
            "exp[bfloat16]" or "exp[bfloat16]: value agrees" excuses some dtypes alone. Where the library has
            versions that are right, "exp (torch>=2.10,<2.13)" is an entry for these alone, and with others
            as if it were not there.
        declines: what the ops do not offer, each entry with the reason: "matmul" or, in some dtypes alone,
            "matmul[bfloat16, float16]". An op declines a call by `Declined` or `NotImplementedError`, in its
            forward or its pullback. None, the default, lets every op decline what it likes: it is counted and
            shown. If it is given, to decline anything else breaks the law that asked, and an entry that
            nothing was declined by is reported.
        device: where its arrays live.
        nests: whether `vjp` may be called within the fn of another `vjp`, which gives second derivatives:
            with respect to the inputs of both and to the cotangent of the inner one. The inner fn may close
            over what the outer one computes from its inputs.

    Raises:
        TypeError: for one string where a collection of names belongs.
        ValueError: for an op or dtype that does not exist, for an entry of `known` or `declines` whose op or
            dtype is not among the backend's, and for one of `known` whose versions are malformed or of no
            installed library.
    """

    name: str
    ops: Mapping[str, Callable[..., Any]]
    vjp: Callable[..., Any]
    from_numpy: Callable[[Any], Any]
    to_numpy: Callable[[Any], Any]
    synchronize: Callable[[], None] = _nothing_to_wait_for
    poisoned: Callable[..., AbstractContextManager[Any]] = nullcontext
    dtypes: Collection[str] = frozenset({"float64", "float32"})
    known: Mapping[str, str] = field(default_factory=dict)
    declines: Mapping[str, str] | None = field(default=None, kw_only=True)
    device: str = "cpu"
    nests: bool = False

    def __post_init__(self) -> None:
        backend = f"backend {self.name!r}"
        _refuse_one_name(backend, self.ops)
        if not isinstance(self.ops, OpTable):
            object.__setattr__(self, "ops", OpTable(self.ops, backend))
        for name, entries in ("known", self._declared_deviations), ("declines", self.declared_declines):
            ops, dtypes = [e.op for e in entries], [dtype for e in entries for dtype in sorted(e.dtypes)]
            _check_names(backend, f"`{name}` names op {{}}, which is not in `ops`", ops, self.ops)
            _check_names(backend, f"`{name}` names dtype {{}}, which is not in `dtypes`", dtypes, self.dtypes)
        _check_names(backend, "there is no dtype {}", self.dtypes, DTYPES)
        object.__setattr__(self, "known", MappingProxyType(dict(self.known)))
        if self.declines is not None:
            object.__setattr__(self, "declines", MappingProxyType(dict(self.declines)))
        object.__setattr__(self, "dtypes", frozenset(self.dtypes))

    def __repr__(self) -> str:
        return f"<backend {self.name}: {len(self.ops)} ops>"

    @property
    def deviations(self) -> list[Deviation]:
        """The entries of `known`, parsed, without those of versions that are not installed."""
        return [deviation for deviation in self._declared_deviations if deviation.is_of_this_version]

    @property
    def _declared_deviations(self) -> list[Deviation]:
        declared = [Deviation.parse(where, why) for where, why in self.known.items()]
        return [replace(entry, op=self._find_address(entry.op)) for entry in declared]

    @property
    def declared_declines(self) -> list[DeclaredDecline]:
        """The entries of `declines`, parsed; none if it is None."""
        declared = [DeclaredDecline.parse(where, why) for where, why in (self.declines or {}).items()]
        return [replace(entry, op=self._find_address(entry.op)) for entry in declared]

    def _find_address(self, name: str) -> str:
        """Return the address of an op that the backend offers, by that or by its name; else the name."""
        alike = (address for address in self.ops if address.rpartition(":")[2] == name)
        return name if name in self.ops else next(alike, name)

    def with_ops(
        self,
        ops_by_key: Mapping[Any, Callable[..., Any]] = MappingProxyType({}),
        /,
        *,
        name: str,
        dtypes: Collection[str] | None = None,
        known: Mapping[str, str] | None = None,
        nests: bool | None = None,
        declines: Mapping[str, str] | None = None,
        **ops: Callable[..., Any],
    ) -> "Backend":
        """Return a backend of just these ops, say hand-written kernels, with this one's arrays and `vjp`.

        Args:
            ops_by_key: more of its ops, by the ops themselves, their addresses or their names.
            name: the name of the new backend.
            dtypes: the dtypes it is verified in; by default those of this backend.
            known: its known deviations; by default none, since those of the library's ops are not the
                kernels'.
            nests: whether the backward passes of its ops can themselves be differentiated; by default as
                of this backend. False asks for no second derivatives: of kernels that autograd does not see
                into, or whose backward pass is marked with torch's `once_differentiable`.
            declines: what its ops decline; by default anything, since it is not said.
            **ops: its ops, by their names.
        """
        dtypes = self.dtypes if dtypes is None else dtypes
        nests = self.nests if nests is None else nests
        return replace(
            self,
            name=name,
            ops={**ops_by_key, **ops},
            dtypes=dtypes,
            known=known or {},
            declines=declines,
            nests=nests,
        )


def call(op: Op, fn: Callable[..., Any], arrays: Sequence[Any], keywords: Mapping[str, Any]) -> Any:
    """Call fn, an implementation of the op, as the op is called: with arrays, or one sequence of them.

    If it declines the call, the exception gets the name of the op, which `get_declining_op` returns.
    """
    try:
        return fn(tuple(arrays), **keywords) if op.variadic else fn(*arrays, **keywords)
    except NotImplementedError as error:
        vars(error).setdefault(_DECLINING_OP, op.address)
        raise


_DECLINING_OP = "_gradspec_op"


def get_declining_op(error: NotImplementedError) -> str | None:
    """Return the address of the op whose forward declined a call; None if unknown, as of pullbacks."""
    name: str | None = vars(error).get(_DECLINING_OP)
    return name


def _refuse_one_name(backend: str, names: Any) -> None:
    """Raise TypeError for a string in place of a collection."""
    if isinstance(names, str):
        raise TypeError(f"{backend}: {names!r} is one name, not a collection of names")


def _check_names(backend: str, complaint: str, names: Iterable[str], allowed: Collection[str]) -> None:
    """Raise ValueError for the first name that is not allowed; `complaint` has {} in place of the name."""
    _refuse_one_name(backend, names)
    for name in names:
        if name not in allowed:
            raise ValueError(f"{backend}: {complaint.format(repr(name))}; {suggest_nearest(name, allowed)}")
