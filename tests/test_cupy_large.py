"""The CUDA C of the CuPy backend beyond 2^32 elements: its last blocks, on arrays of which next to nothing is in memory."""

import importlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from gradspec.reference import OPS

pytest.importorskip("cupy", reason="CuPy is not installed: the extra `cupy` has it, where there are wheels")
stand_in = importlib.import_module("cupy_stand_in")
emulation = importlib.import_module("cuda_emulation")
with stand_in.standing_in():
    launch = importlib.import_module("gradspec.backends.cupy.launch")

pytestmark = pytest.mark.skipif(emulation.COMPILER is None, reason="there is no g++ to run the kernels with")

COLUMNS = 1040
EACH = 128  # rows that a strip has, or that a block of layer_norm takes in its turn backward
ROWS = (2**32 // COLUMNS // EACH + 1) * EACH
LAST = 2
"""Rows that are looked at, which start beyond 2^32 elements."""


def large(*shape: int) -> Any:
    """An array of float16, zeros that take no memory until they are touched."""
    try:
        return stand_in.of(np.zeros(shape, np.float16))
    except MemoryError:
        pytest.skip("this machine promises no memory that it does not have")


def lazy(size: int) -> Any:
    return stand_in.Pointer(large(-(-size // 2)).array.view(np.uint8))


@pytest.fixture
def last_blocks(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Sets how many blocks are run; without memory for what nobody writes."""
    with stand_in.using_allocator(lazy):
        yield lambda count: monkeypatch.setattr(emulation, "last", count)


def filled(*shape: int, seed: int) -> Any:
    """A large array with numbers in its last rows."""
    x = large(*shape)
    x.array[-LAST:] = np.random.default_rng(seed).standard_normal((LAST, *shape[1:]))
    return x


def agree(found: Any, expected: Any) -> bool:
    return np.allclose(
        found.array[-LAST:].astype(float), expected, rtol=2e-3, atol=2e-3
    )  # float16, rounded once


CASES: dict[str, tuple[str, dict[str, Any], int]] = {
    "tanh": ("tanh", {}, 9),
    "softmax": ("softmax", {"axis": 1}, LAST),
    "log_softmax": ("log_softmax", {"axis": 1}, LAST),
    "divide": ("divide", {}, 9),
    "multiply": ("multiply", {}, 9),
    "cross_entropy": ("cross_entropy", {"reduction": "none"}, LAST),
    "layer_norm": ("layer_norm", {}, LAST),
}
"""By name: an op, its keywords and how many of the last blocks have the last rows."""


def right(backend: Any, name: str, blocks: Callable[[int], None]) -> bool:
    """Whether value and gradients are the spec's in the last rows."""
    op, keywords, count = CASES[name]
    x, g = filled(ROWS, COLUMNS, seed=0), filled(ROWS, COLUMNS, seed=1)
    others = {
        "divide": [filled(ROWS, COLUMNS, seed=2)],
        "multiply": [stand_in.of(np.linspace(-1, 1, COLUMNS).astype(np.float16))],
        "layer_norm": [stand_in.of(np.linspace(-1, 1, COLUMNS).astype(np.float16))] * 2,
        "cross_entropy": [stand_in.of(np.full(ROWS, 7))],
    }.get(op, [])
    if op == "cross_entropy":
        g = filled(ROWS, seed=1)
    blocks(count)
    value, pullbacks = backend.ops[op].rule(x, *others, **keywords)
    first = pullbacks[0](g) if isinstance(pullbacks, tuple) else pullbacks(g)[0]
    spec = [a.array[-LAST:] if len(a) == ROWS else a.array for a in (x, *others)]
    spec = [a.astype(float) if a.dtype == np.float16 else a for a in spec]
    expected, pulls = OPS[op].rule(*spec, **keywords)
    last_g = g.array[-LAST:].astype(float)
    first_expected = pulls[0](last_g) if isinstance(pulls, tuple) else pulls(last_g)[0]  # type: ignore[misc]
    return agree(value, expected) and agree(first, first_expected)


@pytest.mark.parametrize("name", CASES)
def test_the_last_rows_of_a_large_array_are_right(name: str, last_blocks: Callable[[int], None]) -> None:
    backend = stand_in.planted(rows__resident=lambda threads, dtype: ROWS // EACH)
    assert right(backend, name, last_blocks)


def test_sums_of_a_large_array_are_right(last_blocks: Callable[[int], None]) -> None:
    """Of what the last strip has, in the columns that the last blocks then add up."""
    backend = stand_in.planted(sums__strips=lambda m, others: ROWS // EACH)
    g = filled(ROWS, COLUMNS, seed=0)
    one = stand_in.of(np.zeros((1, COLUMNS), np.float16))
    last_blocks(-(-COLUMNS // 256))
    _, (_, to_row) = backend.ops["add"].rule(g, one)
    with stand_in.standing_in():
        expected = g.array[-LAST:].astype(float).sum(0)
    found = to_row(g).array[0].astype(float)
    assert np.allclose(found[-128:], expected[-128:], rtol=2e-3, atol=2e-3)  # float16, rounded once


def test_an_index_of_32_bits_is_caught(last_blocks: Callable[[int], None]) -> None:
    def source(file: str) -> str:
        text: str = launch.source(file)
        return text.replace(
            "((i64)blockIdx.x * blockDim.x + threadIdx.x) * V",
            "(unsigned)((blockIdx.x * blockDim.x + threadIdx.x) * V)",
        )

    assert not right(stand_in.planted(launch_source=source), "tanh", last_blocks)
