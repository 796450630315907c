"""Filling calls and arrays with values that a block of bytes picks."""

import math

import numpy as np

from gradspec.properties.cases.case import Case, dtype_of
from gradspec.properties.cases.value_alphabets import COTANGENT_VALUES, alphabets
from gradspec.reference.calls import Call, IntegerArrayBelow
from gradspec.reference.domains import Booleans, Domain, Integers
from gradspec.reference.op import Op
from gradspec.reference.rule import Array


def fill_case(op: Op, call: Call, dtype: str, block: Array) -> Case:
    """Return the case that a call becomes when a block of bytes picks its values.

    Args:
        op: The op.
        call: The shapes of its arrays and its keywords.
        dtype: The dtype of the floats.
        block: Bytes: the first ones pick an alphabet for each array, the others its elements.
    """
    inputs = []
    for i, described in enumerate(call.shapes):
        picks = _rotate(block[len(call.shapes) :], 17 * i)  # so that equal shapes get different values
        allow_far = i == 0 and not op.elementwise
        inputs.append(fill_array(op.domain(i), dtype, described, int(block[i]), picks, allow_far))
    arrays = op.settle_arguments(inputs, call.keywords)
    with np.errstate(all="ignore"):
        shape = np.shape(op.compute_value(*(_to_float32(x) for x in arrays), **call.keywords))
    return Case(op, dtype, arrays, call.keywords, fill_cotangent(dtype, shape, block[::-1]))


def fill_array(
    domain: Domain,
    dtype: str,
    described: tuple[int, ...] | IntegerArrayBelow,
    choice: int,
    block: Array,
    allow_far: bool = False,
) -> Array:
    """Return an array whose elements a block of bytes picks from an alphabet.

    Args:
        domain: What may occur: `Integers` give int64, `Booleans` bool, an `Interval` floats.
        dtype: The dtype of floats.
        described: The shape; of integers, what else the call says of them.
        choice: Picks the alphabet of floats.
        block: Picks the elements; repeated where it is too short.
        allow_far: Whether floats may lie far from zero compared with the distances between them.
    """
    shape = described.shape if isinstance(described, IntegerArrayBelow) else described
    n = int(np.prod(shape))
    picks = _repeat_to_length(block, n)
    if isinstance(described, IntegerArrayBelow):
        return described.pick(picks)
    if isinstance(domain, Integers):
        return np.zeros(shape, np.int64)
    if isinstance(domain, Booleans):
        return (picks % 2 == 0).reshape(shape)
    choices = alphabets(domain, dtype, allow_far)
    alphabet = choices[choice % len(choices)]
    return alphabet[picks % len(alphabet)].reshape(shape)


def fill_cotangent(dtype: str, shape: tuple[int, ...], block: Array) -> Array:
    """Return a cotangent that is never uniform: even where the bytes are equal, the elements differ."""
    n = int(np.prod(shape))
    picks = _repeat_to_length(block, n) + np.arange(n)
    return np.array(COTANGENT_VALUES).astype(dtype_of(dtype))[picks % len(COTANGENT_VALUES)].reshape(shape)


def draw_byte_block(call: Call, rng: np.random.Generator) -> Array:
    """Return random bytes for `fill_case`: as many as the arrays of the call have elements, and some more."""
    sizes = [math.prod(s.shape if isinstance(s, IntegerArrayBelow) else s) for s in call.shapes]
    return rng.integers(0, 256, sum(sizes) + len(sizes) + 64, np.uint8)


def _rotate(block: Array, k: int) -> Array:
    """Return the bytes from the k-th on, then those before it."""
    k %= max(len(block), 1)
    return np.concatenate((block[k:], block[:k])) if k else block


def _repeat_to_length(block: Array, n: int) -> Array:
    """Return so many bytes: of the block, as often as it takes, or zeros if it is empty."""
    if not len(block):
        return np.zeros(n, np.uint8)
    return block[:n] if n <= len(block) else np.resize(block, n)


def _to_float32(x: Array) -> Array:
    """Return floats in a dtype that NumPy itself computes in, and other arrays as they are."""
    return x.astype(np.float32) if x.dtype.kind not in "biu" else x
