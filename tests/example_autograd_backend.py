"""HIPS autograd as a backend: the example of how to add a library."""

# mypy: ignore-errors
# pyright: reportAttributeAccessIssue=false, reportGeneralTypeIssues=false

import warnings

import autograd.numpy as anp
import numpy as np
from autograd import make_vjp
from autograd.builtins import tuple as boxed

from gradspec.backends import Backend, ops_from


def vjp(fn, *inputs):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Output seems independent of input")
        pull, value = make_vjp(lambda xs: fn(*xs))(boxed(inputs))
    return value, lambda g: tuple(pull(g))


ops = ops_from(anp)  # most of them as they stand, by their names in the Array API standard
del ops["clip"], ops["flip"]  # autograd has no derivative of flip, and none of clip by array bounds
ops |= {
    "broadcast_to": lambda x, *, shape: anp.broadcast_to(x, shape),
    "concat": lambda xs, *, axis=0: anp.concatenate(xs, axis),
    "matrix_transpose": lambda x: anp.swapaxes(x, -1, -2),
    "var": lambda x, *, axis=None, correction=0, keepdims=False: anp.var(
        x, axis, ddof=correction, keepdims=keepdims
    ),
}

backend = Backend(
    name="autograd",
    ops=ops,
    vjp=vjp,
    from_numpy=np.array,
    to_numpy=np.asarray,
    known={
        "broadcast_to": "no gradient for new axes and those of length 0; https://github.com/HIPS/autograd/issues/384",
        "permute_dims": "the gradient inverts negative axes wrongly; autograd 1.9, numpy_vjps.py, transpose",
        "where": "the gradient is not summed over broadcast axes; autograd 1.9, numpy_vjps.py, where",
    },
)
