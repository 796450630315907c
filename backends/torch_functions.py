"""Plain functions of torch, as the spec's ops are made of: from arrays of NumPy to a value and its pullback.

A function is run on the CPU in float32, or in float64, and differentiated by torch's own autograd.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from gradspec.backends.torch_operations import Observer, observe_operations
from gradspec.reference.rule import Array


class UnsuitableFunctionError(Exception):
    """A function is none of tensors that torch can differentiate; the message says what it does."""


WRITES = "writes to its arguments"


TorchFunction = Callable[..., Any]
"""From tensors by position, and keywords, to a tensor or a tuple of them."""


def run(
    function: TorchFunction,
    arrays: Sequence[Array],
    keywords: dict[str, Any],
    wrt: Sequence[int],
    observer: Observer | None,
) -> tuple[Any, Callable[..., list[Array | None]]]:
    """Return the value of a function and its pullback.

    Args:
        function: The function.
        arrays: What it takes by position. If there is an array of more than 32 bits, it is run in float64.
        keywords: What it takes by name.
        wrt: The numbers of the arrays to differentiate by.
        observer: What is shown the operations of both passes.

    Returns:
        The value, or a tuple of several. The pullback takes one cotangent for each, and returns the gradients
        by the arrays that `wrt` numbers; None where torch has none.

    Raises:
        UnsuitableFunctionError: It returns something else than tensors, its value cannot be
            differentiated, or it writes to its arguments.
    """
    is_wide = any(x.dtype.kind == "f" and x.dtype.itemsize > 4 for x in arrays)
    dtype = torch.float64 if is_wide else torch.float32
    tensors = [_to_tensor(x, dtype) for x in arrays]
    leaves = [tensors[i].requires_grad_() for i in wrt]
    versions = [x._version for x in tensors]
    with observe_operations(dtype, observer):
        try:
            outcome = function(*tensors, **keywords)
        except RuntimeError as error:
            if "leaf" in str(error) and "in-place" in str(error):
                raise UnsuitableFunctionError(WRITES) from error
            raise
    values = outcome if isinstance(outcome, tuple) else (outcome,)
    _require_tensors(outcome, values)
    if [x._version for x in tensors] != versions:
        raise UnsuitableFunctionError(WRITES)
    if wrt and any(v.is_floating_point() for v in values) and not any(v.requires_grad for v in values):
        raise UnsuitableFunctionError(
            "returns a value without a gradient: it is computed from detached tensors, or under no_grad"
        )

    def pull(*gs: Array) -> list[Array | None]:
        for v, g in zip(values, gs, strict=True):
            if g.shape != tuple(v.shape):
                raise ValueError(f"the cotangent has shape {g.shape}, its value {tuple(v.shape)}")
        with observe_operations(dtype, observer, backward=True):
            # Of several values often one alone has a cotangent; the graphs of the others would be in vain.
            used = [(v, _to_tensor(g, dtype)) for v, g in zip(values, gs, strict=True) if np.any(g)]
            used = used or [(values[0], _to_tensor(gs[0], dtype))]
            some_values, some_gs = zip(*used, strict=True)
            gradients = _differentiate(some_values, some_gs, leaves, retain_graph=True)
        return [None if d is None else _to_array(d) for d in gradients]

    results = tuple(map(_to_array, values))
    return (results if isinstance(outcome, tuple) else results[0]), pull


def make_gradient(function: TorchFunction, count: int, wrt: Sequence[int]) -> TorchFunction:
    """Return the function of arrays and cotangents that gives the gradients of another function, as a tuple.

    Args:
        function: The other function.
        count: How many arrays it takes.
        wrt: The numbers of those to differentiate by.
    """

    def compute_gradients(*tensors: torch.Tensor, **keywords: Any) -> tuple[torch.Tensor, ...]:
        outcome = function(*tensors[:count], **keywords)
        values = outcome if isinstance(outcome, tuple) else (outcome,)
        leaves = [tensors[i] for i in wrt]
        gradients = _differentiate(values, tensors[count:], leaves, create_graph=True)
        return tuple(torch.zeros_like(x) if d is None else d for x, d in zip(leaves, gradients, strict=True))

    return compute_gradients


def _differentiate(
    values: Sequence[torch.Tensor],
    gs: Sequence[torch.Tensor],
    leaves: Sequence[torch.Tensor],
    **options: bool,
) -> Sequence[torch.Tensor | None]:
    pairs = [(v, g) for v, g in zip(values, gs, strict=True) if v.requires_grad]
    if not pairs:
        return [None] * len(leaves)
    some_values, some_gs = zip(*pairs, strict=True)
    return torch.autograd.grad(some_values, leaves, some_gs, allow_unused=True, **options)


def _require_tensors(outcome: Any, values: Sequence[Any]) -> None:
    """Raise UnsuitableFunctionError unless all values are tensors."""
    others = [type(v).__name__ for v in values if not isinstance(v, torch.Tensor)]
    if others or not values:
        in_tuple = f"a tuple with {', '.join(others) or 'nothing'} in it"
        kind = in_tuple if isinstance(outcome, tuple) else others[0]
        raise UnsuitableFunctionError(f"returns {kind}; a reference returns a tensor, or a tuple of tensors")


def _to_tensor(x: Array, dtype: torch.dtype) -> torch.Tensor:
    """Return an array as a tensor in memory of its own; one of floats in this dtype."""
    floats = np.float64 if dtype == torch.float64 else np.float32
    return torch.from_numpy(np.array(x, None if x.dtype.kind in "biu" else floats, order="C"))


def _to_array(x: torch.Tensor) -> Array:
    return np.array(x.numpy(force=True))
