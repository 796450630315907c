"""The CUDA C of the CuPy backend beyond 2^32 elements: its last blocks, on arrays hardly in memory."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from gradspec.reference import OPS
from tests.backends.cupy.kernels_under_test import cupy_backends, emulation, fake_cupy, launch, needs_compiler

pytestmark = needs_compiler

COLUMNS = 1040
ROWS_PER_STRIP = 128
"""Rows of a strip, or rows that a block of layer_norm takes in its turn in the backward pass."""

ROWS = (2**32 // COLUMNS // ROWS_PER_STRIP + 1) * ROWS_PER_STRIP
LAST_ROWS = 2
"""How many rows are compared; they start beyond 2^32 elements."""


def lazy_zeros(*shape: int) -> Any:
    """Return a float16 array of zeros that take no memory until somebody touches them."""
    try:
        return fake_cupy.wrap(np.zeros(shape, np.float16))
    except MemoryError:
        pytest.skip("this machine does not promise more memory than it has")


def allocate_lazily(size: int) -> Any:
    return fake_cupy.Pointer(lazy_zeros(-(-size // 2)).array.view(np.uint8))


@pytest.fixture
def set_last_block_count(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Sets how many of the last blocks are run; what nobody writes takes no memory."""
    with fake_cupy.using_allocator(allocate_lazily):
        yield lambda count: monkeypatch.setattr(emulation, "last_block_count", count)


def make_array_with_last_rows(*shape: int, seed: int) -> Any:
    """Return a large array with random numbers in its last rows."""
    x = lazy_zeros(*shape)
    x.array[-LAST_ROWS:] = np.random.default_rng(seed).standard_normal((LAST_ROWS, *shape[1:]))
    return x


def are_close(found: Any, expected: Any) -> bool:
    """Return whether float16 numbers are those expected, each rounded once."""
    return np.allclose(found.astype(float), expected, rtol=2e-3, atol=2e-3)


CASES: dict[str, tuple[str, dict[str, Any], int]] = {
    "tanh": ("tanh", {}, 9),
    "softmax": ("softmax", {"axis": 1}, LAST_ROWS),
    "log_softmax": ("log_softmax", {"axis": 1}, LAST_ROWS),
    "divide": ("divide", {}, 9),
    "multiply": ("multiply", {}, 9),
    "cross_entropy": ("cross_entropy", {"reduction": "none"}, LAST_ROWS),
    "layer_norm": ("layer_norm", {}, LAST_ROWS),
}
"""By name: an op, its keywords, and how many of the last blocks compute the last rows."""


def is_right(backend: Any, name: str, set_last_block_count: Callable[[int], None]) -> bool:
    """Return whether the value and the gradients are those of the spec in the last rows."""
    op, keywords, count = CASES[name]
    x, g = make_array_with_last_rows(ROWS, COLUMNS, seed=0), make_array_with_last_rows(ROWS, COLUMNS, seed=1)
    others = {
        "divide": [make_array_with_last_rows(ROWS, COLUMNS, seed=2)],
        "multiply": [fake_cupy.wrap(np.linspace(-1, 1, COLUMNS).astype(np.float16))],
        "layer_norm": [fake_cupy.wrap(np.linspace(-1, 1, COLUMNS).astype(np.float16))] * 2,
        "cross_entropy": [fake_cupy.wrap(np.full(ROWS, 7))],
    }.get(op, [])
    if op == "cross_entropy":
        g = make_array_with_last_rows(ROWS, seed=1)
    set_last_block_count(count)
    value, pullbacks = backend.ops[op].rule(x, *others, **keywords)
    first = pullbacks[0](g) if isinstance(pullbacks, tuple) else pullbacks(g)[0]
    spec = [a.array[-LAST_ROWS:] if len(a) == ROWS else a.array for a in (x, *others)]
    spec = [a.astype(float) if a.dtype == np.float16 else a for a in spec]
    expected, pulls = OPS[op].rule(*spec, **keywords)
    last_g = g.array[-LAST_ROWS:].astype(float)
    first_expected = pulls[0](last_g) if isinstance(pulls, tuple) else pulls(last_g)[0]  # type: ignore[misc]
    return are_close(value.array[-LAST_ROWS:], expected) and are_close(
        first.array[-LAST_ROWS:], first_expected
    )


@pytest.mark.parametrize("name", CASES)
def test_the_last_rows_of_a_large_array_are_right(
    name: str, set_last_block_count: Callable[[int], None]
) -> None:
    changes = {"rows._count_resident_blocks": lambda threads, dtype: ROWS // ROWS_PER_STRIP}
    backend = cupy_backends.load_with_changes(changes)
    assert is_right(backend, name, set_last_block_count)


def test_sums_of_a_large_array_are_right(set_last_block_count: Callable[[int], None]) -> None:
    """The sums of the last strip, in the columns that the last blocks then add up."""
    backend = cupy_backends.load_with_changes(
        {"sums._count_strips": lambda m, others: ROWS // ROWS_PER_STRIP}
    )
    g = make_array_with_last_rows(ROWS, COLUMNS, seed=0)
    one = fake_cupy.wrap(np.zeros((1, COLUMNS), np.float16))
    set_last_block_count(-(-COLUMNS // 256))
    _, (_, to_row) = backend.ops["add"].rule(g, one)
    with cupy_backends.replace_cupy():
        expected = g.array[-LAST_ROWS:].astype(float).sum(0)
    assert are_close(to_row(g).array[0, -128:], expected[-128:])


def test_an_index_of_32_bits_is_caught(set_last_block_count: Callable[[int], None]) -> None:
    right, wrong = (
        "((i64)blockIdx.x * blockDim.x + threadIdx.x) * V",
        "(unsigned)((blockIdx.x * blockDim.x + threadIdx.x) * V)",
    )
    changes = {"launch.read_source": lambda file: launch.read_source(file).replace(right, wrong)}
    backend = cupy_backends.load_with_changes(changes)
    assert not is_right(backend, "tanh", set_last_block_count)
