"""Memory that lies alike in each process, so that a time is one of the code and not of where its arrays lie.

Two things differ from process to process, and change times by a factor of two or three: whether malloc has the pages of an
array of 16 MiB from the kernel in each call or keeps them, and at which of 256 places in a page an array in the cache begins,
since NumPy aligns it to 16 bytes, writes 32 or 64 at a time, and loads wait for stores to the same place of another page.
"""

import ctypes
from functools import cache

from asv_bench.measuring.numpy_memory_handler import MemoryHandler, get_current_handler, install_handler

PAGE_BYTES = 4096  # bytes
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3  # of glibc's malloc.h
MALLOPT_SETTINGS = {
    M_TRIM_THRESHOLD: 2**31 - 1,
    M_TOP_PAD: 2**26,
    M_MMAP_THRESHOLD: 2**25,
}  # the most that each can be, or enough


def fix_memory_placement(size: str) -> None:
    """For this process: call it before the arrays of a benchmark are made. size: one of `subjects.SIZES`."""
    keep_freed_pages()
    if size != "overhead":  # of which allocating is a part
        align_arrays_to_pages()


@cache
def keep_freed_pages() -> None:
    """Have malloc keep what is given back to it, where it is glibc's."""
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        for what, value in MALLOPT_SETTINGS.items():
            mallopt(what, value)


@cache
def align_arrays_to_pages() -> None:
    """Have NumPy's arrays begin at pages, but for those of zeros.

    NumPy calls malloc(context, size) of its handler, which is aligned_alloc(alignment, size) for the alignment as context.
    """
    if aligned_alloc := getattr(ctypes.CDLL(None), "aligned_alloc", None):
        handler = MemoryHandler.from_buffer_copy(
            get_current_handler()
        )  # whose other functions have no use for a context
        handler.name, handler.ctx = b"gradspec aligns", PAGE_BYTES
        handler.malloc = ctypes.cast(aligned_alloc, ctypes.c_void_p).value
        install_handler(handler)
