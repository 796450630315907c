"""CUDA graphs: a whole step as one launch, for arrays so small that launching takes longer than computing."""

from collections.abc import Callable
from typing import Any

import cupy

from gradspec.reference.rule import Array

WARM_UP_RUNS = 2
"""Runs before the capture: they compile kernels, make the libraries' handles and fill the pool of memory."""


def capture_graph(step: Callable[..., Any], *inputs: Array) -> Callable[..., Any]:
    """Return a function that replays what `step(*inputs)` launches, for other arrays.

    The arrays have the shapes and dtypes of `inputs`, and the function returns the same memory each time.

    The step runs here and then never again: whatever it does besides launching is not repeated, and no value
    that it reads decides anything. Indices out of range go unnoticed, and targets that are not classes do
    until somebody waits for another op that takes targets.

    Args:
        step: A function from arrays to an array or a tuple of arrays, by ops of this backend, forward and,
            with `backward`, back.
        inputs: The arrays of the runs before and during the capture; they are copied.

    Raises:
        CUDARuntimeError: The step waits for the device, or copies from the host, as indexing by NumPy arrays
            does.
    """
    # A pool of its own: nobody else may get the memory that the graph writes to.
    pool = cupy.cuda.MemoryPool()
    stream = cupy.cuda.Stream(non_blocking=True)
    with cupy.cuda.using_allocator(pool.malloc), stream:
        captured_inputs = [x.copy() for x in inputs]
        for _ in range(WARM_UP_RUNS):
            step(*captured_inputs)
        stream.synchronize()
        stream.begin_capture()
        try:
            outputs = step(*captured_inputs)
        finally:
            graph = stream.end_capture()

    def replay(*xs: Array) -> Any:
        for captured_input, x in zip(captured_inputs, xs, strict=True):
            captured_input[...] = x
        graph.launch(cupy.cuda.get_current_stream())
        return outputs

    vars(replay)["memory"] = pool  # it must live as long as the replay
    return replay
