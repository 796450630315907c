"""CuPy, which has arrays and no autograd: every op of the spec by rules of its own, on the spec's tape.

Most rules are the spec's own: written with NumPy's functions, they run on CuPy arrays as they stand (`rules`).
"""

from gradspec.backends.cupy.backend import composed, gpu

__all__ = ["composed", "gpu"]
