"""CuPy, which has arrays and no autograd: every op of the spec by rules of its own, on the spec's tape.

Most rules are the spec's own: written with NumPy's functions, they run on CuPy arrays as they stand (`rules`). Where one
pass over the memory does the work of several, a fused kernel takes their place (`fused`, `rows`, `sums`, with the CUDA C
in `kernels/`).

    from gradspec.backends.cupy import Tensor, bias_activation, capture_graph

`Tensor(array, requires_grad=True)` is a variable with operators and `backward()`; `gpu().ops` has the ops by name.
"""

from gradspec.backends.cupy.backend import Tensor, composed, gpu
from gradspec.backends.cupy.cuda_graph import capture_graph
from gradspec.backends.cupy.fused import bias_activation, multiply_add

__all__ = ["Tensor", "bias_activation", "capture_graph", "composed", "gpu", "multiply_add"]
