"""The CuPy backend: every op of the spec on CuPy arrays, on the spec's tape, since CuPy has no autograd.

Most rules are the spec's own: written with NumPy's functions, they run on CuPy arrays unchanged (`rules`).
Where one pass over the memory does the work of several, a fused kernel takes their place (`fused`, `binary`,
`elementwise`, `rows`, `sums`, with the CUDA C in `kernels/`).

    from gradspec.backends.cupy import Tensor, bias_activation, capture_graph

`Tensor(array, requires_grad=True)` is a variable with operators and `backward()`; `gpu().ops` has the ops by
name.
"""

from gradspec.backends.cupy.backend import Tensor, composed, gpu
from gradspec.backends.cupy.cuda_graph import capture_graph
from gradspec.backends.cupy.fused import bias_activation, multiply_add

__all__ = ["Tensor", "bias_activation", "capture_graph", "composed", "gpu", "multiply_add"]
