"""What operations of torch are made of: the usual ones as any kernel writes them, others as torch says.

Torch's own decompositions of the usual ones are made for its compiler, which they import.

Two formulas are usual in fused kernels, although they lose digits that these do not, and a plain function as
reference cannot say so. In the backward pass the probabilities of a softmax are computed anew, as
exp(x - logsumexp(x)); and where their cotangent is a product of matrices, g v, its mean under the
probabilities p is taken as the sum of g o, where o = p v. FlashAttention-2 has both (Dao, 2023, algorithm
2). What they lose counts as rounding, in every backward pass.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch._decomp import decomposition_table

Tensor = torch.Tensor


def list_names(text: str) -> frozenset[str]:
    """Return the names that a text has in it, one after the other."""
    return frozenset(text.split())


BY_TORCH = list_names(
    "addbmm addcdiv addcmul addmv addr binary_cross_entropy "
    "binary_cross_entropy_backward binary_cross_entropy_with_logits elu elu_backward glu glu_backward "
    "hardsigmoid hardsigmoid_backward hardswish hardswish_backward hardtanh hardtanh_backward huber_loss "
    "huber_loss_backward leaky_relu leaky_relu_backward lerp linalg_vector_norm log_sigmoid_backward "
    "log_sigmoid_forward logaddexp mish mish_backward mse_loss mse_loss_backward native_batch_norm "
    "native_batch_norm_backward native_group_norm native_group_norm_backward smooth_l1_loss "
    "smooth_l1_loss_backward softplus softplus_backward"
)
"""The operations that round several times, of which torch says what they are made of."""


class Roundings:
    """Errors at random, and what some numbers were computed from, where that decides how far off they may be.

    Attributes:
        has_tiny: Whether there may be numbers that are as good as 0, but on one side of it.
        rng: The source of randomness.
        unit: The largest error of one operation, relative to its result.
    """

    def __init__(self, rng: np.random.Generator, unit: float) -> None:
        self.rng, self.unit, self.has_tiny = rng, unit, False
        self._kept: dict[tuple[str, int], tuple[Tensor, Callable[[], Tensor]]] = {}

    def keep(self, what: str, result: Tensor, compute: Callable[[], Tensor]) -> None:
        """Keep something of a result for whoever sees it again, or a view of it.

        Args:
            what: What it is: "error", of a result that is computed anew, or "size", of the numbers whose sums
                a result is.
            result: The result.
            compute: Returns it, in the shape of the result or broadcast to it.
        """
        if result.is_contiguous():
            self._kept[what, result.untyped_storage().data_ptr()] = result, compute

    def find(self, what: str, x: Tensor) -> Tensor | None:
        """Return what was kept of a result, for this view of it; None if nothing was."""
        kept = self._kept.get((what, x.untyped_storage().data_ptr())) if x.numel() else None
        if kept is None:
            return None
        found = kept[1]().expand(kept[0].shape).contiguous()
        return found.as_strided(x.shape, x.stride(), x.storage_offset())

    def draw_units(self, like: Tensor) -> Tensor:
        """Return errors of one unit, of either sign."""
        signs = np.where(self.rng.random(tuple(like.shape)) < 0.5, -self.unit, self.unit)
        return torch.from_numpy(np.asarray(signs)).to(like.dtype)


def find_decomposition(func: Any) -> Callable[..., Any] | None:
    """Return the function that does what an operation does in several ones, None if there is none.

    It takes the `Roundings` first, or None where there are none, and then the arguments.
    """
    name = func.overloadpacket.__name__
    if name in USUAL:
        return USUAL[name]
    by_torch = decomposition_table.get(func) if name in BY_TORCH else None
    return None if by_torch is None else lambda roundings, *args, **keywords: by_torch(*args, **keywords)


def _addmm(_: Any, bias: Tensor, x: Tensor, y: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    product = torch.matmul(x, y)
    return (product if alpha == 1 else product * alpha) + (bias if beta == 1 else bias * beta)


def _softmax(roundings: Roundings | None, x: Tensor, dim: int, half_to_float: bool) -> Tensor:
    top = _find_largest(x, dim)
    powers = torch.exp(x - top)
    result = powers / powers.sum(dim, keepdim=True)
    if roundings:
        roundings.keep("error", result, lambda: result * top.abs() * roundings.draw_units(top))
    return result


def _safe_softmax(roundings: Roundings | None, x: Tensor, dim: int, dtype: Any = None) -> Tensor:
    """The softmax of rows that are not -inf throughout; those give zeros."""
    if bool(torch.any(torch.all(torch.isinf(x) & (x < 0), dim))):
        return torch.where(torch.all(x == -torch.inf, dim, keepdim=True), 0, torch.softmax(x, dim))
    return _softmax(roundings, x, dim, False)


def _softmax_backward_data(
    roundings: Roundings | None, g: Tensor, y: Tensor, dim: int, input_dtype: Any
) -> Tensor:
    product = g * y
    mean = product.sum(dim, keepdim=True)
    size = roundings.find("size", g) if roundings else None
    if roundings and size is not None:
        mean = mean + (size * y).sum(dim, keepdim=True) * roundings.draw_units(mean)
    return product - y * mean


def _log_softmax(roundings: Roundings | None, x: Tensor, dim: int, half_to_float: bool) -> Tensor:
    top = _find_largest(x, dim)
    shifted = x - top
    result = shifted - torch.log(torch.exp(shifted).sum(dim, keepdim=True))
    if roundings:
        roundings.keep("error", result, lambda: top.abs() * roundings.draw_units(top))
    return result


def _log_softmax_backward_data(_: Any, g: Tensor, y: Tensor, dim: int, input_dtype: Any) -> Tensor:
    return g - torch.exp(y) * g.sum(dim, keepdim=True)


def _logsumexp(_: Any, x: Tensor, dim: list[int], keepdim: bool = False) -> Tensor:
    top = x.amax(dim, keepdim=True) if x.numel() else torch.zeros(())
    top = torch.where(torch.isinf(top), torch.zeros_like(top), top)
    result = torch.log(torch.exp(x - top).sum(dim, keepdim=True)) + top
    return result if keepdim else result.squeeze(tuple(dim))


def _find_largest(x: Tensor, dim: int) -> Tensor:
    return x.amax(dim, keepdim=True) if x.numel() else x.sum(dim, keepdim=True)


def _native_layer_norm(
    _: Any, x: Tensor, shape: Sequence[int], weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    axes = tuple(range(x.ndim - len(shape), x.ndim))
    mean = x.mean(axes, keepdim=True)
    centred = x - mean
    rstd = torch.rsqrt((centred * centred).mean(axes, keepdim=True) + eps)
    result = centred * rstd
    result = result if weight is None else result * weight
    return result if bias is None else result + bias, mean, rstd


def _native_layer_norm_backward(
    _: Any,
    g: Tensor,
    x: Tensor,
    shape: Sequence[int],
    mean: Tensor,
    rstd: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    wanted: Sequence[bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    axes = tuple(range(x.ndim - len(shape), x.ndim))
    rows = tuple(range(x.ndim - len(shape)))
    xhat = (x - mean) * rstd
    gx = g if weight is None else g * weight
    along_xhat = (gx * xhat).mean(axes, keepdim=True)
    dx = rstd * (gx - gx.mean(axes, keepdim=True) - xhat * along_xhat)
    dweight, dbias = g * xhat, g
    if rows:
        dweight, dbias = dweight.sum(rows), dbias.sum(rows)
    return dx, dweight if wanted[1] else None, dbias if wanted[2] else None


def _var(_: Any, *args: Any, **keywords: Any) -> Tensor:
    return _var_mean(_, *args, **keywords)[0]


def _var_mean(
    _: Any,
    x: Tensor,
    dim: Sequence[int] | bool | None = None,
    unbiased: bool = True,
    keepdim: bool = False,
    *,
    correction: float | None = None,
) -> tuple[Tensor, Tensor]:
    if isinstance(dim, bool):  # an old form, of which that is the only argument
        return _var_mean(_, x, None, dim)
    axes = tuple(dim) if dim else tuple(range(x.ndim))
    count = math.prod(x.shape[a] for a in axes)
    mean = x.mean(axes, keepdim=True)
    centred = x - mean
    total = (centred * centred).sum(axes, keepdim=keepdim)
    variance = total / max(count - (unbiased if correction is None else correction), 0)
    return variance, mean if keepdim else mean.squeeze(axes)


def _std(_: Any, *args: Any, **keywords: Any) -> Tensor:
    return torch.sqrt(_var(_, *args, **keywords))


def _gelu(_: Any, x: Tensor, *, approximate: str = "none") -> Tensor:
    return x * _compute_gelu_share(x, approximate)[0]


def _gelu_backward(_: Any, g: Tensor, x: Tensor, *, approximate: str = "none") -> Tensor:
    share, slope = _compute_gelu_share(x, approximate)
    return g * (share + x * slope)


def _compute_gelu_share(x: Tensor, approximate: str) -> tuple[Tensor, Tensor]:
    """Return what x is multiplied by, and the derivative of that."""
    if approximate == "none":
        return (
            0.5 * (1 + torch.erf(x * math.sqrt(0.5))),
            torch.exp(-0.5 * (x * x)) * math.sqrt(0.5 / math.pi),
        )
    scale = math.sqrt(2 / math.pi)
    bent = torch.tanh(scale * (x + 0.044715 * (x * x * x)))
    return 0.5 * (1 + bent), 0.5 * (1 - bent * bent) * (scale * (1 + 3 * 0.044715 * (x * x)))


def _silu(_: Any, x: Tensor) -> Tensor:
    return x * torch.sigmoid(x)


def _silu_backward(_: Any, g: Tensor, x: Tensor) -> Tensor:
    y = torch.sigmoid(x)
    return g * (y * (1 + x * (1 - y)))


def _sigmoid_backward(_: Any, g: Tensor, y: Tensor) -> Tensor:
    return g * (y * (1 - y))


def _tanh_backward(_: Any, g: Tensor, y: Tensor) -> Tensor:
    return g * (1 - y * y)


USUAL: Mapping[str, Callable[..., Any]] = {
    "_log_softmax": _log_softmax,
    "_log_softmax_backward_data": _log_softmax_backward_data,
    "_safe_softmax": _safe_softmax,
    "_softmax": _softmax,
    "_softmax_backward_data": _softmax_backward_data,
    "addmm": _addmm,
    "baddbmm": _addmm,
    "gelu": _gelu,
    "gelu_backward": _gelu_backward,
    "logsumexp": _logsumexp,
    "native_layer_norm": _native_layer_norm,
    "native_layer_norm_backward": _native_layer_norm_backward,
    "sigmoid_backward": _sigmoid_backward,
    "silu": _silu,
    "silu_backward": _silu_backward,
    "std": _std,
    "tanh_backward": _tanh_backward,
    "var": _var,
    "var_mean": _var_mean,
}
"""Those that most functions use."""
