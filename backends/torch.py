"""The backends "torch" and "torch:cuda": PyTorch's own functions and its own autograd.

At kinks the choice is torch's own: relu'(0) is 0 and abs'(0) is 0, for instance. The few functions written
here give torch the spec's conventions; none of them computes a gradient.
"""

import warnings
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import array_api_compat.torch as xp
import ml_dtypes
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 (the name everyone gives it)

from gradspec.backends.array_api import ops_from
from gradspec.backends.backend import Backend, Unavailable
from gradspec.backends.torch_composing import OPS_FOR_FORMULAS
from gradspec.backends.torch_indexing import getitem
from gradspec.backends.torch_memory import poison_memory
from gradspec.reference.axes import fit_axes

# NumPy has no such type, and torch does not know this one: the bits are passed from one to the other.
NUMPY_BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


def cpu() -> Backend:
    """Return the backend "torch"."""
    return _make_backend("cpu", "torch", lambda: None)


def cuda() -> Backend:
    """Return the backend "torch:cuda".

    Raises:
        Unavailable: if torch sees no CUDA device.
    """
    if not torch.cuda.is_available():
        raise Unavailable("torch:cuda: torch sees no CUDA device")
    return _make_backend("cuda", "torch:cuda", torch.cuda.synchronize)


def _make_backend(device: str, name: str, synchronize: Callable[[], None]) -> Backend:
    return Backend(
        name=name,
        ops=OPS,
        vjp=vjp,
        from_numpy=lambda x: from_numpy(x, device),
        to_numpy=to_numpy,
        synchronize=synchronize,
        poisoned=poison_memory,
        dtypes={"float64", "float32", "bfloat16", "float16"},
        declines={},  # it offers every call of every op in every dtype
        known=KNOWN_DEVIATIONS | _find_deviations_of_this_processor(device),
        device=device,
        nests=True,
    )


# Arrays


def from_numpy(x: np.ndarray[Any, Any], device: str = "cpu") -> torch.Tensor:
    """Return a tensor with the elements, strides and offset of x, in memory of its own.

    Zero strides are kept; a long offset is shortened, see `_shorten_offset`. Torch has neither negative
    strides nor strides of a fraction of an element: an array with such strides is copied in C order first. On
    CUDA the layout is the same.

    Args:
        x: of dtype float64, float32, float16, `ml_dtypes.bfloat16`, int64 or bool; it may be read-only.
        device: where the tensor lives.
    """
    if x.base is None and x.flags.c_contiguous:  # most arrays are laid out so
        return _view_as_tensor(x.copy()).to(device)
    if any(s < 0 or s % x.itemsize for s in x.strides):
        x = x.copy(order="C")
    offset = _shorten_offset(x)
    strides = [s // x.itemsize for s in x.strides]
    extent = 1 + sum((n - 1) * s for n, s in zip(x.shape, strides, strict=True)) if x.size else 0
    memory = np.zeros(offset + extent, x.dtype)
    memory[offset:] = np.lib.stride_tricks.as_strided(x, (extent,), (x.itemsize,))
    return _view_as_tensor(memory).to(device).as_strided(x.shape, strides, offset)


def _view_as_tensor(x: np.ndarray[Any, Any]) -> torch.Tensor:
    """Return a tensor of the same memory; x must be writeable."""
    if x.dtype == NUMPY_BFLOAT16:  # which torch does not know
        return torch.from_numpy(x.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(x)


def _shorten_offset(x: np.ndarray[Any, Any]) -> int:
    """Return how many elements into its memory x starts; from 32 on, this modulo 16, plus 16.

    So a view that starts between two vector loads or cache lines still does so, without a copy of everything
    before it.
    """
    owner = x
    while isinstance(owner.base, np.ndarray):
        owner = owner.base
    offset: int = (x.__array_interface__["data"][0] - np.lib.array_utils.byte_bounds(owner)[0]) // x.itemsize
    return offset if offset < 32 else 16 + offset % 16


def to_numpy(x: torch.Tensor) -> np.ndarray[Any, Any]:
    """Return a NumPy array with the elements of x, a tensor on any device, in memory of its own."""
    x = x.detach().resolve_conj().resolve_neg().cpu()
    if x.dtype == torch.bfloat16:
        return np.array(x.view(torch.int16).numpy().view(NUMPY_BFLOAT16))
    return np.array(x.numpy())


# Differentiation

_is_within_vjp: ContextVar[bool] = ContextVar("is_within_vjp", default=False)


def vjp(
    fn: Callable[..., Any], *inputs: torch.Tensor
) -> tuple[Any, Callable[[torch.Tensor], tuple[torch.Tensor, ...]]]:
    """Return the value of `fn` at floating-point tensors and its pullback, which may be called several times.

    Inputs that require no grad are differentiated through detached aliases, and the value is detached. An
    input that does require grad, as within another `vjp`, stays connected, and the backward pass itself is
    recorded: so `vjp(lambda x: vjp(f, x)[1](g)[0], x)` gives second derivatives. Within another `vjp` all is
    recorded, since `fn` may close over variables of that.
    """
    nested = _is_within_vjp.get() or any(x.requires_grad for x in inputs)
    leaves = [x.view_as(x) if x.requires_grad else x.detach().requires_grad_() for x in inputs]
    token = _is_within_vjp.set(True)
    try:
        with torch.enable_grad():
            value = fn(*leaves)
    finally:
        _is_within_vjp.reset(token)

    def pullback(g: torch.Tensor) -> tuple[torch.Tensor, ...]:
        if not value.requires_grad:
            return tuple(torch.zeros_like(x) for x in leaves)
        record = nested or g.requires_grad
        torch_gradients: tuple[torch.Tensor | None, ...] = torch.autograd.grad(
            value, leaves, g, retain_graph=True, create_graph=record, allow_unused=True
        )
        gradients = [
            # Some second derivatives are zero tensors without memory: replace them by ordinary zeros.
            torch.zeros_like(x) if d is None or d._is_zerotensor() else d
            for x, d in zip(leaves, torch_gradients, strict=True)
        ]
        return tuple(gradients if record else _clone_shared_gradients(g, gradients))

    return (value if nested else value.detach()), pullback


def _clone_shared_gradients(g: torch.Tensor, gradients: list[torch.Tensor]) -> list[torch.Tensor]:
    """Return the gradients, each in memory of its own: `autograd.grad` may return the cotangent itself."""
    used_pointers = {g.untyped_storage().data_ptr()}
    own_gradients = []
    for d in gradients:
        own_gradients.append(d.clone() if d.untyped_storage().data_ptr() in used_pointers else d)
        used_pointers.add(own_gradients[-1].untyped_storage().data_ptr())
    return own_gradients


# Ops


def _clip(x: torch.Tensor, min: torch.Tensor, max: torch.Tensor | None = None) -> Any:
    # The backward pass of torch 2.13 combines `x < min` and `min < max` in place, and raises if the second
    # has more axes or elements (clamp_backward_min_max in torch/csrc/autograd/FunctionsManual.cpp): so both
    # bounds are given one shape.
    bounds = (min,) if max is None else torch.broadcast_tensors(min, max)  # type: ignore[no-untyped-call]
    return _standard_ops["clip"](x, *bounds)


def _cross_entropy(x: torch.Tensor, target: torch.Tensor, *, reduction: str = "mean") -> Any:
    # By default torch ignores targets of -100.
    return F.cross_entropy(x, target, reduction=reduction, ignore_index=-(2**62))


def _softmax(x: torch.Tensor, *, axis: int = -1) -> Any:
    return torch.softmax(x, axis)


def _log_softmax(x: torch.Tensor, *, axis: int = -1) -> Any:
    return torch.log_softmax(x, axis)


def _logsumexp(x: torch.Tensor, *, axis: Any = None, keepdims: bool = False) -> Any:
    if axis == ():  # no axis, which torch takes for all axes
        return torch.logsumexp(x[..., None], -1)
    return torch.logsumexp(x, tuple(range(x.ndim)) if axis is None else axis, keepdims)


def _var(x: torch.Tensor, **keywords: Any) -> Any:
    if keywords.get("axis") == ():  # array-api-compat returns zeros here, even for NaN
        return _var(x[..., None], **{**keywords, "axis": -1, "keepdims": False})
    if x.numel():
        return _standard_ops["var"](x, **keywords)
    # Torch warns of a variance of too few numbers even where there is none to compute.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return _standard_ops["var"](x, **keywords)


def _take_axes_of_no_dimensions(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Return an op of array-api-compat that, like torch's own, takes axis 0 or -1 of no dimensions."""
    return lambda x, *, axis=None, **keywords: fn(x, axis=fit_axes(axis, x.ndim), **keywords)


def _softplus(x: torch.Tensor) -> Any:
    # From the threshold on torch returns x itself. At the default threshold of 20 that is 2e-9 too small,
    # which is visible in float64; at 40 the difference is below float64's rounding.
    return F.softplus(x, threshold=40)


def _layer_norm(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, *, eps: float = 1e-5) -> Any:
    return F.layer_norm(x, weight.shape, weight, bias, eps)


_standard_ops = ops_from(xp)

OPS: dict[str, Callable[..., Any]] = {
    **_standard_ops,
    **OPS_FOR_FORMULAS,
    "clip": _clip,
    "cross_entropy": _cross_entropy,
    "gelu": F.gelu,
    "getitem": getitem,
    "layer_norm": _layer_norm,
    "linear": F.linear,
    "log_softmax": _log_softmax,
    "logsumexp": _logsumexp,
    "prod": _take_axes_of_no_dimensions(_standard_ops["prod"]),
    "relu": F.relu,
    "sigmoid": torch.sigmoid,
    "silu": F.silu,
    "softmax": _softmax,
    "softplus": _softplus,
    "squeeze": _take_axes_of_no_dimensions(_standard_ops["squeeze"]),
    "var": _var,
}
"""Every op of the spec, made of torch's own functions."""

LAYER_NORM_SUMS_IN_16_BITS = (
    "torch's layer_norm adds up the gradients of weight and bias in 16 bits on the CPU: of 4096 rows of ones "
    "the gradient of bias is 512 in bfloat16 on two threads, 256 on one; in float16 sums end at 2048"
)
EXTREMES_COUNT_TIES_IN_FLOAT16 = (
    "the backward pass of torch.amax and amin counts ties in the dtype, as of torch 2.13: along an axis with "
    "more than 65,519 of them in float16 the count is infinite and the gradient 0"
)
INDEX_ADD_SUMS_IN_16_BITS = (
    "torch.index_add adds up where a place recurs in 16 bits on the CPU, as of torch 2.13: 4096 ones at one "
    "place are 256 in bfloat16, 2048 in float16"
)

POW_IS_CONSTANT_WHERE_THE_EXPONENT_IS_0 = (
    "torch.pow's backward is a constant 0 where the exponent is 0, so that its derivative by the "
    "exponent is 0 as well, not 1/x; https://github.com/pytorch/pytorch/issues/89757"
)

KNOWN_DEVIATIONS = {
    "clip: gradient at kinks is a legal subgradient": (
        "torch.clamp's backward, as of torch 2.13, gives neither bound the cotangent where x is outside both "
        "and they are equal (clamp_backward_min_max in torch/csrc/autograd/FunctionsManual.cpp asks for "
        "min < max, or max < min)"
    ),
    "getitem[bfloat16, float16]: cases of many elements agree": (
        "torch adds up the gradients of an index that recurs in 16 bits on the CPU (index_put_ with "
        "accumulate=True, as of torch 2.13): of 4096 ones it is 256 in bfloat16, 2048 in float16"
    ),
    "index_add[bfloat16, float16]: cases of many elements agree": INDEX_ADD_SUMS_IN_16_BITS,
    "index_add[bfloat16, float16]: value agrees": INDEX_ADD_SUMS_IN_16_BITS,
    "layer_norm[bfloat16]: every gradient agrees": LAYER_NORM_SUMS_IN_16_BITS,
    "layer_norm[bfloat16, float16]: cases of many elements agree": LAYER_NORM_SUMS_IN_16_BITS,
    "layer_norm: extremes go where the spec says": (
        "torch's layer_norm of equal numbers whose square overflows, such as [3e19, 3e19] in float32, is "
        "NaN; subtracting the mean first would give the bias"
    ),
    "linear: what the spec refuses raises": (
        "torch.nn.functional.linear broadcasts a bias of shape (), (1) or (1, out)"
    ),
    "max[float16]: cases of many elements agree": EXTREMES_COUNT_TIES_IN_FLOAT16,
    "min[float16]: cases of many elements agree": EXTREMES_COUNT_TIES_IN_FLOAT16,
    "take_along_axis: what the spec refuses raises": (
        "torch.take_along_dim, as of torch 2.13, takes indices modulo the length of the axis: 7 of 7 is 0"
    ),
    "var: keywords at their ends agree": (
        "torch's var of n numbers with a correction above n is infinite, as it divides by max(0, "
        "n - correction). Its backward, as of torch 2.13, divides by n - correction (var_backward in "
        "torch/csrc/autograd/FunctionsManual.cpp): the gradient is finite and of the other sign"
    ),
    "pow: second derivatives agree": POW_IS_CONSTANT_WHERE_THE_EXPONENT_IS_0,
    "pow: second derivatives of every size agree": POW_IS_CONSTANT_WHERE_THE_EXPONENT_IS_0,
}
"""Where torch deviates from the spec on any processor: the `known` of its backends."""


def _find_deviations_of_this_processor(device: str) -> dict[str, str]:
    """Return the deviations that only torch's vectorized functions for some processors have."""
    infinite = torch.full((64,), torch.inf, device=device)
    if not F.gelu(infinite).isnan().any():  # as with AVX2 alone
        return {}
    return {
        "gelu[float32, bfloat16]: extremes of elementwise ops go where the spec says": (
            "torch.nn.functional.gelu of inf is inf in a tensor of one element and NaN in one of two, in "
            "float32 and bfloat16, where torch 2.13 vectorizes it for AVX-512"
        )
    }
