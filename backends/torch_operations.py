"""Every operation of torch, in sight: in which precision it computes, and what it might have given.

Operations are taken from torch's dispatcher, below autograd, where those of forward and backward passes come
by alike. All floats are computed in one dtype, whatever the code casts to. An observer may move each result
to a neighbouring number, as another right implementation may round it. What is made of several operations is
taken apart (`torch_decompositions`): what is lost within a layer norm counts as much as what is lost before
it. Which side of a kink a zero is on is drawn at random.

Does not see: which of several equal zeros a maximum over an axis takes.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from gradspec.backends.torch_decompositions import Roundings, find_decomposition, list_names
from gradspec.reference.rule import Array

EXACT = list_names(
    "_to_copy _unsafe_view abs amax amin arange cat ceil clamp clamp_max clamp_min clone constant_pad_nd "
    "convert_element_type copy copysign diag_embed embedding eye fill flip floor full full_like gather index "
    "index_select lift_fresh "
    "lift_fresh_copy masked_fill masked_select max maximum min minimum neg new_full new_ones ones ones_like "
    "relu repeat roll round scalar_tensor select_backward select_scatter slice_backward slice_scatter sort "
    "stack take threshold threshold_backward topk tril triu trunc unfold_backward unsafe_split where"
)
"""The operations that move numbers, choose among them or make them, and never round."""

CHOICES = frozenset(("ge", "gt", "le", "lt", "relu", "sgn", "sign"))
"""The operations that take a side at a kink; where numbers are equal, either may be right."""

SUMS = frozenset(("mean", "sum"))
"""The operations whose partial sums are rounded, too."""

PRODUCTS = frozenset(("bmm", "mm"))
"""The products of matrices."""

USES_OF_PROBABILITIES = PRODUCTS | {"_log_softmax_backward_data", "_softmax_backward_data"}
"""The operations of backward passes that use the result of a softmax."""

ADDING = SUMS | list_names(
    "_index_put_impl_ bmm convolution convolution_backward cumsum dot embedding_dense_backward index_add "
    "index_put mm mv scatter_add vdot"
)
"""The operations that add up elements."""

TINY = 2.0**-149
"""What stands for 0 on that side of a kink where a gradient passes: the smallest number of float32."""

NEGLIGIBLE = 2.0**-140
"""What is smaller may come of that, and is neither rounded nor shown to the observer."""


class Observer(Protocol):
    """What is shown the results of operations, and may change them."""

    @property
    def roundings(self) -> Roundings | None:
        """What else may be off, and decides at kinks; None where all is as torch has it."""

    def round_result(self, result: Array, inputs: Sequence[Array]) -> Array:
        """Return what an operation might have given in place of `result`."""

    def round_sum(self, result: Array, terms: Array, axis: tuple[int, ...]) -> Array:
        """Return what a sum over some axes might have given in place of `result`."""

    def note_sum(self, name: str) -> None:
        """Take note of an operation that adds up elements."""


@contextmanager
def observe_operations(
    dtype: torch.dtype, observer: Observer | None, backward: bool = False
) -> Iterator[None]:
    """Within the block compute all floats in one dtype, and show the results of operations to an observer.

    Args:
        dtype: The dtype.
        observer: The observer.
        backward: Whether this is a backward pass alone.
    """
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH), _EachOperation(dtype, observer, backward):
            yield
    finally:
        torch.set_default_dtype(default)


class _Facts(NamedTuple):
    """What is known of an operation.

    Attributes:
        name: Its name, without the underscore of those that write to an argument.
        has_dtype: Whether a dtype may be among its arguments.
        is_exact: Whether it returns a view, or never rounds.
        writes: Whether it writes to an argument.
        decomposition: What it is made of, if that is known.
    """

    name: str
    has_dtype: bool
    is_exact: bool
    writes: bool
    decomposition: Callable[..., Any] | None


@cache
def _describe(func: Any) -> _Facts:
    aliases = [value.alias_info for value in func._schema.returns]
    name = func.overloadpacket.__name__.removesuffix("_")
    return _Facts(
        name=name,
        has_dtype=any("ScalarType" in str(argument.real_type) for argument in func._schema.arguments),
        is_exact=name in EXACT - CHOICES or any(a is not None and not a.is_write for a in aliases),
        writes=any(a is not None and a.is_write for a in aliases),
        decomposition=find_decomposition(func),
    )


class _EachOperation(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Computes in one dtype, and shows what is computed to an observer, if there is one."""

    def __init__(self, dtype: torch.dtype, observer: Observer | None, backward: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.dtype, self.observer, self.backward = dtype, observer, backward

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing is compiled here, and to import the compiler takes longer than to judge a function."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        facts, kwargs = _describe(func), kwargs or {}
        if facts.has_dtype:
            args = [self._keep_precision(x) for x in args]
            kwargs = {name: self._keep_precision(x) for name, x in kwargs.items()}
        observer = self.observer
        if observer is None or facts.is_exact:
            return func(*args, **kwargs)
        roundings = observer.roundings
        if roundings and self.backward and facts.name in USES_OF_PROBABILITIES:
            args = [_compute_anew(roundings, x) for x in args]
        if facts.decomposition is not None:
            with self:
                result = facts.decomposition(roundings, *args, **kwargs)
            if result is not NotImplemented:
                return result
        result = func(*args, **kwargs)
        if facts.name in ADDING:
            observer.note_sum(facts.name)
        if roundings is None:
            return result
        result = _replace(observer, roundings, facts, result, args)
        if facts.name in PRODUCTS:
            x, y = args
            roundings.keep("size", result, lambda: x.abs() @ y.abs())
        return result

    def _keep_precision(self, x: Any) -> Any:
        return self.dtype if isinstance(x, torch.dtype) and x.is_floating_point else x


def _replace(observer: Observer, roundings: Roundings, facts: _Facts, result: Any, args: Any) -> Any:
    """Return what an operation might have given in place of a result; what it wrote to is written to."""
    if isinstance(result, tuple | list):
        return type(result)([_replace(observer, roundings, facts, x, args) for x in result])
    if not isinstance(result, torch.Tensor):
        return result
    if facts.name in CHOICES:
        array = _choose_at_kinks(facts.name, result, args, roundings)
    elif result.is_floating_point():
        array = _round(observer, facts.name, result, args, roundings.has_tiny)
    else:
        return result
    tensor = torch.from_numpy(np.asarray(array))
    return result.copy_(tensor) if facts.writes else tensor


def _compute_anew(roundings: Roundings, x: Any) -> Any:
    """Return a tensor off by as much as it is once it is computed anew."""
    error = roundings.find("error", x) if isinstance(x, torch.Tensor) else None
    return x if error is None else x + error


def _choose_at_kinks(name: str, result: torch.Tensor, args: Any, roundings: Roundings) -> Array:
    """Return a result that is one or the other at random where two numbers are equal, or one is 0."""
    got, (x, y) = _to_array(result), (*map(_to_array, args), 0.0)[:2]
    if getattr(x, "dtype", np.dtype(float)).kind != "f" or getattr(y, "dtype", np.dtype(float)).kind != "f":
        return got
    at = np.broadcast_to(x == (y if name in ("ge", "gt", "le", "lt") else 0), got.shape)
    if not np.any(at):
        return got
    one, other = {"relu": (TINY, 0.0), "sgn": (1.0, -1.0), "sign": (1.0, -1.0)}.get(name, (True, False))
    roundings.has_tiny |= name == "relu"
    return np.where(at, np.where(roundings.rng.random(got.shape) < 0.5, one, other), got).astype(got.dtype)


def _round(observer: Observer, name: str, result: torch.Tensor, args: Any, has_tiny: bool) -> Array:
    """Return what an operation that rounds might have given in place of a result."""
    got = _to_array(result)
    x = np.where(np.abs(got) < NEGLIGIBLE, got.dtype.type(0), got) if has_tiny else got
    if name in SUMS:
        terms, dims = _to_array(args[0]), args[1] if len(args) > 1 else None
        axis = tuple(d % terms.ndim for d in dims or range(terms.ndim)) if terms.ndim else ()
        if name == "mean":
            terms = terms / terms.dtype.type(terms.size / max(x.size, 1))
        x = observer.round_sum(x, terms, axis)
    else:
        x = observer.round_result(x, [_to_array(a) for a in args if isinstance(a, torch.Tensor)])
    return np.where((np.abs(got) < NEGLIGIBLE) & (x == 0), got, x) if has_tiny else x


def _to_array(x: Any) -> Any:
    """Return a tensor as an array, of the same memory where that can be; anything else as it is."""
    return x.numpy(force=True) if isinstance(x, torch.Tensor) else x
