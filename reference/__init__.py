"""The spec: a minimal NumPy autograd.

An op is a function that returns its value and one pullback per array argument. Everything else (tape,
backends, properties, benchmarks, tables) is derived from that.
"""

from gradspec.reference import ops
from gradspec.reference.constructors import arange, empty, ones, rand, randn, tensor, zeros
from gradspec.reference.declaration import op
from gradspec.reference.grad_mode import no_grad
from gradspec.reference.op import OPS, Op
from gradspec.reference.random_numbers import manual_seed
from gradspec.reference.record import record
from gradspec.reference.rule import VJP
from gradspec.reference.tape import Variable
from gradspec.reference.tensor import Tensor, vjp

__all__ = [
    "OPS",
    "VJP",
    "Op",
    "Tensor",
    "Variable",
    "arange",
    "empty",
    "manual_seed",
    "no_grad",
    "ones",
    "op",
    "ops",
    "rand",
    "randn",
    "record",
    "tensor",
    "vjp",
    "zeros",
]  # fmt: skip
