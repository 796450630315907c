"""Sums of products of arrays, by the names of their axes: what einsum is made of.

All is written in ops, so that pullbacks, which are such sums themselves, can be differentiated.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from gradspec.reference.calls import Shape
from gradspec.reference.rule import Array

Names = tuple[str, ...]
"""The names of the axes of an array; those that dots stand for are "0", "1" and so on, from the end."""


def parse_subscripts(subscripts: str, ranks: Sequence[int]) -> tuple[list[Names], Names]:
    """Return the names of the axes of each array and of the result.

    Args:
        subscripts: as of `einsum`; without an arrow the result has the names that occur once, in order.
        ranks: the ranks of the arrays.

    Raises:
        ValueError: if the arrays have other ranks, or the result an axis that none of them has.
    """
    left, arrow, right = subscripts.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != len(ranks) or not all(
        re.fullmatch(r"[A-Za-z]*(\.\.\.)?[A-Za-z]*", t) for t in (*terms, right)
    ):
        raise ValueError(f"einsum: {subscripts!r} is no sum of products of {len(ranks)} arrays")
    names, most = [], 0
    for term, rank in zip(terms, ranks, strict=True):
        before, dots, after = term.partition("...")
        extra = rank - len(before) - len(after)
        if extra < 0 or (extra and not dots):
            raise ValueError(f"einsum: {term!r} of {subscripts!r} is an array of {rank} dimensions")
        names.append((*before, *map(str, range(extra - 1, -1, -1)), *after))
        most = max(most, extra)
    of_dots = tuple(map(str, range(most - 1, -1, -1)))
    counts = Counter(name for of_x in names for name in of_x)
    if not arrow:
        return names, (*of_dots, *sorted(k for k, n in counts.items() if n == 1 and k.isalpha()))
    before, dots, after = right.partition("...")
    result = (*before, *(of_dots if dots else ()), *after)
    if len(set(result)) < len(result) or not set(before + after) <= set(counts) or (of_dots and not dots):
        raise ValueError(
            f"einsum: the result of {subscripts!r} names an axis twice, or one that no array has, or "
            "leaves out the dots"
        )
    return names, result


def find_lengths(subscripts: str, names: Sequence[Names], shapes: Sequence[Shape]) -> dict[str, int]:
    """Return the length of each axis, 1 being broadcast to any other; ValueError where they do not fit."""
    lengths: dict[str, int] = {}
    for of_x, shape in zip(names, shapes, strict=True):
        for name, n in zip(of_x, shape, strict=True):
            known = lengths.setdefault(name, n)
            lengths[name] = n if known == 1 else known
            if n not in (1, lengths[name]):
                raise ValueError(
                    f"einsum: in {subscripts!r} of shapes {shapes} an axis has lengths {known} and {n}"
                )
    return lengths


def take_diagonals(x: Array, names: Names) -> tuple[Array, Names]:
    """Return the array with each name once: of axes with one name, their diagonal."""
    while len(set(names)) < len(names):
        second = next(i for i, name in enumerate(names) if name in names[:i])
        first = names.index(names[second])
        if x.shape[first] != x.shape[second]:
            raise ValueError(
                f"einsum: a diagonal needs axes of one length, not {x.shape[first]} and {x.shape[second]}"
            )
        x = np.diagonal(x, 0, first, second)
        names = (*names[:first], *names[first + 1 : second], *names[second + 1 :], names[first])
    return x, names


def put_on_diagonals(d: Array, names: Names, full: Names, lengths: dict[str, int]) -> Array:
    """Return an array with axes of all the names, which has d on its diagonals and 0 elsewhere."""
    if names == full:
        return d
    first = [full.index(name) for name in names]
    d = np.reshape(d, tuple(lengths[k] if i in first else 1 for i, k in enumerate(full)))
    for i, name in enumerate(full):
        if i not in first:
            n = lengths[name]
            at = tuple(n if k in (full.index(name), i) else 1 for k in range(len(full)))
            d = np.where(np.reshape(np.eye(n, dtype=bool), at), d, np.zeros((), d.dtype))
    return d


def contract(parts: Sequence[tuple[Array, Names]], result: Names, lengths: dict[str, int]) -> Array:
    """Return the product of arrays with named axes, added up over all that the result does not name.

    They are multiplied from the left; what no later array names is added up on the way, as a product of
    matrices.
    """
    (x, of_x), *others = [_broadcast(x, of_x, lengths) for x, of_x in parts]
    for k, (y, of_y) in enumerate(others):
        needed = {*result}.union(*(later for _, later in others[k + 1 :]))
        x, of_x = _add_up(x, of_x, needed | {*of_y})
        y, of_y = _add_up(y, of_y, needed | {*of_x})
        x, of_x = _multiply(x, of_x, y, of_y, needed, lengths)
    x, of_x = _add_up(x, of_x, {*result})
    return np.permute_dims(x, tuple(of_x.index(name) for name in result))


def _broadcast(x: Array, names: Names, lengths: dict[str, int]) -> tuple[Array, Names]:
    shape = tuple(lengths[name] for name in names)
    return (x if x.shape == shape else np.broadcast_to(x, shape)), names


def _add_up(x: Array, names: Names, needed: set[str]) -> tuple[Array, Names]:
    axes = tuple(i for i, name in enumerate(names) if name not in needed)
    return (np.sum(x, axis=axes) if axes else x), tuple(name for name in names if name in needed)


def _multiply(
    x: Array, of_x: Names, y: Array, of_y: Names, needed: set[str], lengths: dict[str, int]
) -> tuple[Array, Names]:
    """Return the product of two arrays, added up over the axes of both that are not needed."""
    shared = tuple(k for k in of_x if k in of_y and k in needed)
    summed = tuple(k for k in of_x if k in of_y and k not in needed)
    left, right = tuple(k for k in of_x if k not in of_y), tuple(k for k in of_y if k not in of_x)

    def arrange(x: Array, names: Names, *groups: Names) -> Array:
        order = tuple(names.index(k) for group in groups for k in group)
        return np.reshape(
            np.permute_dims(x, order), tuple(math.prod(lengths[k] for k in group) for group in groups)
        )

    if summed:
        product = np.matmul(arrange(x, of_x, shared, left, summed), arrange(y, of_y, shared, summed, right))
    else:
        rows, columns = arrange(x, of_x, shared, left), arrange(y, of_y, shared, right)
        product = rows[:, :, None] * columns[:, None, :]
    names = (*shared, *left, *right)
    return np.reshape(product, tuple(lengths[k] for k in names)), names
