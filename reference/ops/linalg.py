"""Products of matrices and vectors."""

import math

import numpy as np

from gradspec.reference.calls import Call, Choices, count_max_elements, draw_shape
from gradspec.reference.declaration import op
from gradspec.reference.domains import Real
from gradspec.reference.rule import VJP, Array


@op("(m?,n),(n,p?)->(m?,p?)")
def matmul(x: Real, y: Real) -> VJP:
    """Return `x @ y` for vectors and matrices, with broadcasting over leading axes."""
    z = np.matmul(x, y)
    rows = x if x.ndim > 1 else x[None, :]
    columns = y if y.ndim > 1 else y[:, None]

    def as_matrix(g: Array) -> Array:
        g = g if x.ndim > 1 else np.expand_dims(g, -2 if y.ndim > 1 else -1)
        return g if y.ndim > 1 else np.expand_dims(g, -1)

    def pull_x(g: Array) -> Array:
        d = as_matrix(g) @ np.matrix_transpose(columns)
        return d if x.ndim > 1 else d[..., 0, :]

    def pull_y(g: Array) -> Array:
        d = np.matrix_transpose(rows) @ as_matrix(g)
        return d if y.ndim > 1 else d[..., :, 0]

    return z, (pull_x, pull_y)


def _as_rows(x: Array) -> Array:
    return x if x.ndim == 2 else np.reshape(x, (math.prod(x.shape[:-1]), x.shape[-1]))


def _draw_linear(choose: Choices) -> Call:
    batch = draw_shape(choose, high=3)
    size_in = choose.size(count_max_elements(*batch))
    size_out = choose.size(max(count_max_elements(*batch), size_in))
    return Call(((*batch, size_in), (size_out, size_in), (size_out,)))


@op(_draw_linear)
def linear(x: Real, weight: Real, bias: Real = None) -> VJP:
    """Return `x W^T + b`, of shape (..., out).

    With the batch flattened into rows: dx = g W, dW = g^T x, db = the sum of g.

    Args:
        x: of shape (..., in).
        weight: W, of shape (out, in).
        bias: b, of shape (out), or None.
    """
    if weight.ndim != 2 or x.ndim < 1 or x.shape[-1] != weight.shape[1]:
        raise ValueError(
            f"linear: x {x.shape} and weight {weight.shape} do not fit; they must be (..., in) and (out, in)"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(
            f"linear: bias has shape {bias.shape}; with weight {weight.shape} it must be {weight.shape[:1]}"
        )
    rows = _as_rows(x)
    y = rows @ np.matrix_transpose(weight)
    y = y if bias is None else y + bias
    return y if x.ndim == 2 else np.reshape(y, (*x.shape[:-1], weight.shape[0])), (
        lambda g: g @ weight if x.ndim == 2 else np.reshape(_as_rows(g) @ weight, x.shape),
        lambda g: np.matrix_transpose(_as_rows(g)) @ rows,
        None if bias is None else lambda g: g,
    )
