"""Products of matrices and vectors, and sums of products."""

import math
import re

import numpy as np

from gradspec.reference.calls import (
    Call,
    Choices,
    count_max_elements,
    draw_mutually_broadcastable_shapes,
    draw_shape,
)
from gradspec.reference.contraction import (
    contract,
    find_lengths,
    parse_subscripts,
    put_on_diagonals,
    take_diagonals,
)
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


EQUATIONS = (
    "ij,jk->ik",
    "i,i->",
    "ij->ji",
    "ij->j",
    "i,j->ij",
    "bij,bjk->bik",
    "ij,ij->i",
    "ii->i",
    "ii",
    "ji,j",
    "...ij,...jk->...ik",
    "...i->...",
    "i...,i->...",
)
"""What einsum is tried with. Of three arrays it depends on the order of the products where infinities go."""


def _draw_einsum(choose: Choices) -> Call:
    subscripts = choose.of(EQUATIONS)
    terms = subscripts.partition("->")[0].split(",")
    dots = draw_shape(choose, high=2) if "..." in subscripts else ()
    lengths: dict[str, int] = {}
    for name in dict.fromkeys(re.sub(r"[^a-z]", "", "".join(terms))):
        lengths[name] = choose.size(taken := count_max_elements(*dots, *lengths.values()))
        if any(term.count(name) > 1 for term in terms):  # the axes of a diagonal
            lengths[name] = min(lengths[name], choose.size(taken * (lengths[name] or 1)))
    # Which axes dots stand for, the first array with dots tells in full.
    with_dots = [term for term in terms if "..." in term]
    of_dots = iter(draw_mutually_broadcastable_shapes(choose, dots, len(with_dots)))
    shapes = []
    for term in terms:
        before, has_dots, after = term.partition("...")
        middle = next(of_dots) if has_dots else ()
        shapes.append((*(lengths[k] for k in before), *middle, *(lengths[k] for k in after)))
    return Call(tuple(shapes), {"subscripts": subscripts})


@op(_draw_einsum)
def einsum(*xs: Real, subscripts: str) -> VJP:
    """Return the sums of products of the arrays, by the names of their axes, as "ij,jk->ik" of two matrices.

    Axes that the result does not name are added up. Three dots stand for any number of axes, which broadcast.
    """
    names, result = parse_subscripts(subscripts, [np.ndim(x) for x in xs])
    lengths = find_lengths(subscripts, names, [x.shape for x in xs])
    plain = [take_diagonals(x, of_x) for x, of_x in zip(xs, names, strict=True)]
    value = contract(plain, result, lengths)

    def pull_at(i: int, g: Array) -> Array:
        others = [part for k, part in enumerate(plain) if k != i]
        of_x = tuple(dict.fromkeys(names[i]))
        known = {*result}.union(*(of_other for _, of_other in others))
        d = contract([(g, result), *others], tuple(k for k in of_x if k in known), lengths)
        shape = tuple(lengths[k] if k in known else 1 for k in of_x)
        d = np.broadcast_to(np.reshape(d, shape), tuple(lengths[k] for k in of_x))
        return put_on_diagonals(d, of_x, names[i], lengths)

    # d has the full length where x has one element to be broadcast: the tape adds it up.
    return value, tuple(lambda g, i=i: pull_at(i, g) for i in range(len(xs)))
