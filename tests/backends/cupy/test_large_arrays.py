"""The CUDA C of the CuPy backend beyond 2^32 elements: its last blocks, on arrays of which next to nothing is in memory."""

import importlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from gradspec.reference import OPS

pytest.importorskip("cupy", reason="CuPy is not installed: the extra `cupy` has it, where there are wheels")
stand_in = importlib.import_module("tests.stand_ins.fake_cupy")
emulation = importlib.import_module("tests.stand_ins.cuda_emulation")
with stand_in.replace_cupy():
    launch = importlib.import_module("gradspec.backends.cupy.launch")

pytestmark = pytest.mark.skipif(emulation.COMPILER is None, reason="there is no g++ to run the kernels with")

COLUMNS = 1040
ROWS_PER_STRIP = 128  # rows that a strip has, or that a block of layer_norm takes in its turn backward
ROWS = (2**32 // COLUMNS // ROWS_PER_STRIP + 1) * ROWS_PER_STRIP
LAST_ROWS = 2
"""Rows that are looked at, which start beyond 2^32 elements."""


def lazy_zeros(*shape: int) -> Any:
    """An array of float16, zeros that take no memory until they are touched."""
    try:
        return stand_in.wrap(np.zeros(shape, np.float16))
    except MemoryError:
        pytest.skip("this machine promises no memory that it does not have")


def allocate_lazily(size: int) -> Any:
    return stand_in.Pointer(lazy_zeros(-(-size // 2)).array.view(np.uint8))


@pytest.fixture
def set_last_block_count(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Sets how many blocks are run; without memory for what nobody writes."""
    with stand_in.using_allocator(allocate_lazily):
        yield lambda count: monkeypatch.setattr(emulation, "last_block_count", count)


def make_array_with_last_rows(*shape: int, seed: int) -> Any:
    """A large array with numbers in its last rows."""
    x = lazy_zeros(*shape)
    x.array[-LAST_ROWS:] = np.random.default_rng(seed).standard_normal((LAST_ROWS, *shape[1:]))
    return x


def last_rows_are_close(found: Any, expected: Any) -> bool:
    return np.allclose(
        found.array[-LAST_ROWS:].astype(float), expected, rtol=2e-3, atol=2e-3
    )  # float16, rounded once


CASES: dict[str, tuple[str, dict[str, Any], int]] = {
    "tanh": ("tanh", {}, 9),
    "softmax": ("softmax", {"axis": 1}, LAST_ROWS),
    "log_softmax": ("log_softmax", {"axis": 1}, LAST_ROWS),
    "divide": ("divide", {}, 9),
    "multiply": ("multiply", {}, 9),
    "cross_entropy": ("cross_entropy", {"reduction": "none"}, LAST_ROWS),
    "layer_norm": ("layer_norm", {}, LAST_ROWS),
}
"""By name: an op, its keywords and how many of the last blocks have the last rows."""


def is_right(backend: Any, name: str, set_last_block_count: Callable[[int], None]) -> bool:
    """Whether value and gradients are the spec's in the last rows."""
    op, keywords, count = CASES[name]
    x, g = make_array_with_last_rows(ROWS, COLUMNS, seed=0), make_array_with_last_rows(ROWS, COLUMNS, seed=1)
    others = {
        "divide": [make_array_with_last_rows(ROWS, COLUMNS, seed=2)],
        "multiply": [stand_in.wrap(np.linspace(-1, 1, COLUMNS).astype(np.float16))],
        "layer_norm": [stand_in.wrap(np.linspace(-1, 1, COLUMNS).astype(np.float16))] * 2,
        "cross_entropy": [stand_in.wrap(np.full(ROWS, 7))],
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
    return last_rows_are_close(value, expected) and last_rows_are_close(first, first_expected)


@pytest.mark.parametrize("name", CASES)
def test_the_last_rows_of_a_large_array_are_right(
    name: str, set_last_block_count: Callable[[int], None]
) -> None:
    backend = stand_in.load_with_changes(
        {"rows._count_resident_blocks": lambda threads, dtype: ROWS // ROWS_PER_STRIP}
    )
    assert is_right(backend, name, set_last_block_count)


def test_sums_of_a_large_array_are_right(set_last_block_count: Callable[[int], None]) -> None:
    """Of what the last strip has, in the columns that the last blocks then add up."""
    backend = stand_in.load_with_changes({"sums._count_strips": lambda m, others: ROWS // ROWS_PER_STRIP})
    g = make_array_with_last_rows(ROWS, COLUMNS, seed=0)
    one = stand_in.wrap(np.zeros((1, COLUMNS), np.float16))
    set_last_block_count(-(-COLUMNS // 256))
    _, (_, to_row) = backend.ops["add"].rule(g, one)
    with stand_in.replace_cupy():
        expected = g.array[-LAST_ROWS:].astype(float).sum(0)
    found = to_row(g).array[0].astype(float)
    assert np.allclose(found[-128:], expected[-128:], rtol=2e-3, atol=2e-3)  # float16, rounded once


def test_an_index_of_32_bits_is_caught(set_last_block_count: Callable[[int], None]) -> None:
    def source(file: str) -> str:
        text: str = launch.read_source(file)
        return text.replace(
            "((i64)blockIdx.x * blockDim.x + threadIdx.x) * V",
            "(unsigned)((blockIdx.x * blockDim.x + threadIdx.x) * V)",
        )

    assert not is_right(
        stand_in.load_with_changes({"launch.read_source": source}), "tanh", set_last_block_count
    )
