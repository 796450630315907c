"""A whole step of small arrays as one launch: a CUDA graph, for where launching takes longer than computing."""

from collections.abc import Callable
from typing import Any

import cupy

from gradspec.reference.rule import Array

WARM_UP_RUNS = 2  # runs before the capture: they compile kernels, make the libraries' handles and fill the pool of memory


def capture_graph(step: Callable[..., Any], *inputs: Array) -> Callable[..., Any]:
    """`step(*inputs)` as a function of arrays of the same shapes and dtypes that replays what was launched for these.

    step: from arrays to an array or a tuple of arrays, by ops of this backend, forward and, with `backward`, back. It runs
    here and then never again: whatever it does besides launching is not repeated, and no value that it reads decides
    anything. What the replay returns is the same memory each time. Indices out of range go unnoticed, targets that are no
    classes until another op that takes targets is waited for.
    Raises CUDARuntimeError for a step that waits for the device or copies from the host, as indexing by NumPy's arrays does.
    """
    pool = cupy.cuda.MemoryPool()  # nobody else may get the memory that the graph writes to
    stream = cupy.cuda.Stream(non_blocking=True)
    with cupy.cuda.using_allocator(pool.malloc), stream:
        held = [x.copy() for x in inputs]
        for _ in range(WARM_UP_RUNS):
            step(*held)
        stream.synchronize()
        stream.begin_capture()
        try:
            outputs = step(*held)
        finally:
            graph = stream.end_capture()

    def replay(*xs: Array) -> Any:
        for place, x in zip(held, xs, strict=True):
            place[...] = x
        graph.launch(cupy.cuda.get_current_stream())
        return outputs

    vars(replay)["memory"] = pool  # lives as long as the replay does
    return replay
