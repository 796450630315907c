"""The same placement of arrays in memory in every process, so that times depend on the code alone.

Two things differ from process to process and change times by a factor of two or three. The first is whether
malloc gets the pages of an array of 16 MiB from the kernel in each call or keeps them. The second is at which
of 256 places in a page an array in the cache begins: NumPy aligns it to 16 bytes and writes 32 or 64 at a
time, and loads wait for stores to the same place of another page.
"""

import ctypes
from functools import cache

from asv_bench.measuring.numpy_memory_handler import MemoryHandler, get_current_handler, install_handler

PAGE_BYTES = 4096
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3  # of glibc's malloc.h
# Each is the highest value possible, or high enough.
MALLOPT_SETTINGS = {M_TRIM_THRESHOLD: 2**31 - 1, M_TOP_PAD: 2**26, M_MMAP_THRESHOLD: 2**25}


def fix_memory_placement(size: str) -> None:
    """Fix where this process puts arrays; to be called before a benchmark makes any.

    Args:
        size: one of `calls.SIZES`.
    """
    keep_freed_pages()
    # Allocating is a part of the overhead, so there it stays as it is.
    if size != "overhead":
        align_arrays_to_pages()


@cache
def keep_freed_pages() -> None:
    """Make malloc keep the memory that is freed, where it is glibc's."""
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        for setting, value in MALLOPT_SETTINGS.items():
            mallopt(setting, value)


@cache
def align_arrays_to_pages() -> None:
    """Make NumPy's arrays begin at pages, except those that `np.zeros` makes.

    NumPy calls its handler's malloc(context, size). With the alignment as the context, this is a call of
    aligned_alloc(alignment, size).
    """
    if aligned_alloc := getattr(ctypes.CDLL(None), "aligned_alloc", None):
        # The other functions of NumPy's handler do not use the context.
        handler = MemoryHandler.from_buffer_copy(get_current_handler())
        handler.name, handler.ctx = b"gradspec aligns", PAGE_BYTES
        handler.malloc = ctypes.cast(aligned_alloc, ctypes.c_void_p).value
        install_handler(handler)
