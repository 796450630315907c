"""Every operation of torch, in sight: in which precision it computes, and what it might have given.

Operations are taken from torch's dispatcher, below autograd, where those of forward and backward passes come by
alike. All floats are computed in one dtype, whatever the code casts to. An observer may move each result to a
neighbouring number, as another right implementation may round it. What is made of several operations is taken
apart by torch's own decompositions: what is lost within a layer norm counts as much as what is lost before it.

Does not see: which of several equal zeros a maximum over an axis takes.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch._decomp import decomposition_table
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from gradspec.reference.rule import Array

TAKEN_APART = frozenset(
    "_softmax _softmax_backward_data _log_softmax _log_softmax_backward_data logsumexp logaddexp "
    "native_layer_norm native_layer_norm_backward native_group_norm native_group_norm_backward "
    "native_batch_norm native_batch_norm_backward _fused_rms_norm _fused_rms_norm_backward "
    "var var_mean std std_mean linalg_vector_norm addmm addmv addbmm baddbmm addr addcmul addcdiv lerp "
    "gelu gelu_backward silu silu_backward mish mish_backward elu elu_backward glu glu_backward "
    "softplus softplus_backward log_sigmoid_forward log_sigmoid_backward sigmoid_backward tanh_backward "
    "hardswish hardswish_backward hardsigmoid hardsigmoid_backward hardtanh hardtanh_backward "
    "leaky_relu leaky_relu_backward nll_loss_forward nll_loss_backward mse_loss mse_loss_backward "
    "smooth_l1_loss smooth_l1_loss_backward huber_loss huber_loss_backward "
    "binary_cross_entropy binary_cross_entropy_backward binary_cross_entropy_with_logits".split()
)
"""The operations that round several times, of which torch knows what they are made of."""

EXACT = frozenset(
    "_to_copy _unsafe_view abs amax amin arange cat ceil clamp clamp_max clamp_min clone constant_pad_nd copy "
    "copysign diag_embed embedding eye fill flip floor full full_like gather index index_select lift_fresh "
    "lift_fresh_copy masked_fill masked_select max maximum min minimum neg new_full new_ones ones ones_like "
    "relu repeat roll round scalar_tensor select_backward select_scatter slice_backward slice_scatter sort "
    "stack take threshold threshold_backward topk tril triu trunc unfold_backward unsafe_split where".split()
)
"""The operations that move numbers, choose among them or make them, and never round."""

CHOICES = frozenset("ge gt le lt relu sgn sign".split())
"""The operations that take a side at a kink; which one, where numbers are equal, is for whoever writes them."""

SUMS = frozenset(("mean", "sum"))
"""The operations whose partial sums are rounded, too."""

ADDING = SUMS | frozenset(
    "_index_put_impl_ bmm convolution convolution_backward cumsum dot embedding_dense_backward index_add "
    "index_put mm mv scatter_add vdot".split()
)
"""The operations that add up elements."""

TINY = 2.0**-149
"""What stands for 0 on that side of a kink where a gradient passes: the smallest number of float32."""

NEGLIGIBLE = 2.0**-140
"""What is smaller may come of that, and is neither rounded nor shown to the observer."""


class Observer(Protocol):
    """What is shown the results of operations, and may change them."""

    @property
    def rng(self) -> np.random.Generator | None:
        """What decides at kinks; None where torch itself does."""

    def round_result(self, result: Array, inputs: Sequence[Array]) -> Array:
        """Return what an operation might have given in place of `result`."""

    def round_sum(self, result: Array, terms: Array, axis: tuple[int, ...]) -> Array:
        """Return what a sum over some axes might have given in place of `result`."""

    def note_sum(self, name: str) -> None:
        """Take note of an operation that adds up elements."""


@contextmanager
def observe_operations(dtype: torch.dtype, observer: Observer | None) -> Iterator[None]:
    """Within the block compute all floats in one dtype, and show the results of operations to an observer."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH), _EachOperation(dtype, observer):
            yield
    finally:
        torch.set_default_dtype(default)


class _Facts(NamedTuple):
    """What is known of an operation: its name, whether it returns views, writes to an argument, its parts."""

    name: str
    is_view: bool
    writes: bool
    decomposition: Callable[..., Any] | None


@cache
def _describe(func: Any) -> _Facts:
    aliases = [value.alias_info for value in func._schema.returns]
    name = func.overloadpacket.__name__
    return _Facts(
        name=name.removesuffix("_"),
        is_view=any(a is not None and not a.is_write for a in aliases),
        writes=any(a is not None and a.is_write for a in aliases),
        decomposition=decomposition_table.get(func) if name in TAKEN_APART else None,
    )


class _EachOperation(TorchDispatchMode):
    """Computes in one dtype, and shows what is computed to an observer, if there is one."""

    def __init__(self, dtype: torch.dtype, observer: Observer | None) -> None:
        super().__init__()
        self.dtype, self.observer = dtype, observer

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        args = tuple([self._keep_precision(x) for x in args])
        kwargs = {name: self._keep_precision(x) for name, x in (kwargs or {}).items()}
        if self.observer is None:
            return func(*args, **kwargs)
        facts = _describe(func)
        if facts.decomposition is not None:
            with self:
                result = facts.decomposition(*args, **kwargs)
            if result is not NotImplemented:
                return result
        result = func(*args, **kwargs)
        if facts.name in ADDING:
            self.observer.note_sum(facts.name)
        return result if facts.is_view else self._replace(self.observer, facts, result, args)

    def _keep_precision(self, x: Any) -> Any:
        return self.dtype if isinstance(x, torch.dtype) and x.is_floating_point else x

    def _replace(self, observer: Observer, facts: _Facts, result: Any, args: Any) -> Any:
        """Return what an operation might have given in place of a result; what it wrote to is written to."""
        if isinstance(result, tuple | list):
            return type(result)([self._replace(observer, facts, x, args) for x in result])
        if not isinstance(result, torch.Tensor):
            return result
        if observer.rng is not None and facts.name in CHOICES:
            array = _choose_at_kinks(facts.name, result, args, observer.rng)
        elif facts.name in EXACT or not result.is_floating_point():
            return result
        else:
            array = _round(observer, facts.name, result, args)
        tensor = torch.from_numpy(np.asarray(array))
        return result.copy_(tensor) if facts.writes else tensor


def _choose_at_kinks(name: str, result: torch.Tensor, args: Any, rng: np.random.Generator) -> Array:
    """Return a result for which it is chosen at random what it is where two numbers are equal, or one is 0."""
    got, (x, y) = _to_array(result), (*map(_to_array, args), 0.0)[:2]
    if getattr(x, "dtype", np.dtype(float)).kind != "f" or getattr(y, "dtype", np.dtype(float)).kind != "f":
        return got
    at = np.broadcast_to(x == (y if name in ("ge", "gt", "le", "lt") else 0), got.shape)
    if not np.any(at):
        return got
    one, other = {"relu": (TINY, 0.0), "sgn": (1.0, -1.0), "sign": (1.0, -1.0)}.get(name, (True, False))
    return np.where(at, np.where(rng.random(got.shape) < 0.5, one, other), got).astype(got.dtype)


def _round(observer: Observer, name: str, result: torch.Tensor, args: Any) -> Array:
    """Return what an operation that rounds might have given in place of a result."""
    x = _to_array(result)
    tiny = (np.abs(x) < NEGLIGIBLE) & (x != 0)
    has_tiny = bool(np.any(tiny))
    rounded = np.where(tiny, 0, x) if has_tiny else x
    if name in SUMS:
        terms, dims = _to_array(args[0]), args[1] if len(args) > 1 else None
        axis = tuple(d % terms.ndim for d in dims or range(terms.ndim)) if terms.ndim else ()
        if name == "mean":
            terms = terms / terms.dtype.type(terms.size / max(x.size, 1))
        rounded = observer.round_sum(rounded, terms, axis)
    else:
        rounded = observer.round_result(rounded, [_to_array(a) for a in args if isinstance(a, torch.Tensor)])
    return np.where(tiny, x, rounded).astype(x.dtype) if has_tiny else rounded


def _to_array(x: Any) -> Any:
    """Return a tensor as an array, of the same memory where that can be; anything else as it is."""
    return x.numpy(force=True) if isinstance(x, torch.Tensor) else x
