"""`Tensor`: the spec's arrays with torch's spelling, so that one program text runs on both.

A tensor answers to NumPy's functions too. The ops carry the names of the Array API standard, which NumPy's functions
carry as well, so `np.sum` of a tensor is the op `sum`. That is how a pullback, written in NumPy, is recorded when it runs
on tensors, and why second derivatives need no second formula.
"""

from collections.abc import Callable, Iterator
from typing import Any, Self

import numpy as np

from gradspec.reference import tape, writes
from gradspec.reference.op import OPS, Op
from gradspec.reference.ops import elementwise as e
from gradspec.reference.ops import linalg, nn, shapes
from gradspec.reference.ops import reductions as r
from gradspec.reference.tape import VJP, Array, Variable, clock, is_tracking, record

_generator = np.random.default_rng()


def _swapped(apply: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, other: apply(other, self)


def _along(op: Op) -> Callable[..., Any]:
    """A reduction as a method, with torch's names for `axis` and `keepdims`."""

    def method(self: "Tensor", dim: Any = None, keepdim: bool = False) -> "Tensor":
        result: Tensor = op.apply(self, axis=dim, keepdims=keepdim)
        return result

    method.__doc__ = f"The op `{op.name}` over the axes `dim`: None (all), an integer or a tuple."
    return method


def _flat(args: tuple[Any, ...]) -> tuple[int, ...]:
    """The integers of f(2, 3) as well as of f((2, 3))."""
    return tuple(args[0]) if len(args) == 1 and isinstance(args[0], tuple | list) else args


def _plain(x: Any) -> Any:
    """The array of a tensor; everything else, also within a tuple, as it is."""
    return tuple(map(_plain, x)) if isinstance(x, tuple) else x.data if isinstance(x, Variable) else x


@record
def _cast(x: Array, *, dtype: Any) -> VJP:
    return x.astype(dtype), (lambda g: g,)


@record
def _clone(x: Array) -> VJP:
    return x.copy(), (lambda g: g,)


class Tensor(Variable):
    """A NumPy array that knows how it was computed; behaves like a small `torch.Tensor`.

    Operators and methods broadcast as NumPy does. A result requires grad where an input does, unless under `no_grad`.
    After `backward()` leaves have their gradient in `grad`, and further calls add to it.
    """

    __slots__ = ()

    # Operators and elementwise methods are the ops themselves: a wrapper would cost as much as a small multiplication.

    __hash__ = object.__hash__
    __neg__ = neg = e.negative.apply
    __abs__ = abs = e.abs.apply
    __add__ = add = e.add.apply
    __sub__ = sub = e.subtract.apply
    __mul__ = mul = e.multiply.apply
    __truediv__ = div = e.divide.apply
    __pow__ = pow = e.pow.apply
    __matmul__ = matmul = linalg.matmul.apply
    __radd__, __rsub__, __rmul__ = _swapped(__add__), _swapped(__sub__), _swapped(__mul__)
    __rtruediv__, __rpow__, __rmatmul__ = _swapped(__truediv__), _swapped(__pow__), _swapped(__matmul__)
    __eq__ = eq = e.equal.apply  # type: ignore[assignment]
    __lt__ = lt = e.less.apply
    __gt__ = gt = e.greater.apply
    exp, expm1, log, log1p, sqrt = e.exp.apply, e.expm1.apply, e.log.apply, e.log1p.apply, e.sqrt.apply
    square, reciprocal, sign, sin, cos = e.square.apply, e.reciprocal.apply, e.sign.apply, e.sin.apply, e.cos.apply
    tanh, sigmoid, relu = e.tanh.apply, e.sigmoid.apply, e.relu.apply
    maximum, minimum, clamp = e.maximum.apply, e.minimum.apply, e.clip.apply

    sum, mean, prod, logsumexp = _along(r.sum), _along(r.mean), _along(r.prod), _along(r.logsumexp)
    amax, amin, argmax, argmin = _along(r.max), _along(r.min), _along(r.argmax), _along(r.argmin)

    def max(self) -> Self:
        """The largest of all elements; amax(dim) is the one along axes."""
        return r.max(self)  # type: ignore[no-any-return]

    def min(self) -> Self:
        """The smallest of all elements; amin(dim) is the one along axes."""
        return r.min(self)  # type: ignore[no-any-return]

    def var(self, dim: Any = None, *, correction: float = 1, keepdim: bool = False) -> Self:
        """The variance; as in torch, and unlike the op `var`, the correction is 1 unless given."""
        return r.var(self, axis=dim, correction=correction, keepdims=keepdim)  # type: ignore[no-any-return]

    def softmax(self, dim: int) -> Self:
        return nn.softmax(self, axis=dim)  # type: ignore[no-any-return]

    def log_softmax(self, dim: int) -> Self:
        return nn.log_softmax(self, axis=dim)  # type: ignore[no-any-return]

    # Shapes

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape  # type: ignore[no-any-return]

    @property
    def ndim(self) -> int:
        return self.data.ndim  # type: ignore[no-any-return]

    @property
    def dtype(self) -> Any:
        return self.data.dtype

    @property
    def T(self) -> Self:
        return self.permute(*reversed(range(self.ndim)))

    @property
    def mT(self) -> Self:
        return shapes.matrix_transpose(self)  # type: ignore[no-any-return]

    def size(self, dim: int | None = None) -> Any:
        """The shape, or the length of one axis."""
        return self.shape if dim is None else self.shape[dim]

    def numel(self) -> int:
        return self.data.size  # type: ignore[no-any-return]

    def dim(self) -> int:
        return self.ndim

    def __len__(self) -> int:
        if not self.ndim:
            raise TypeError("len() of a 0-d tensor")
        return self.shape[0]

    def reshape(self, *shape: Any) -> Self:
        return shapes.reshape(self, shape=_flat(shape))  # type: ignore[no-any-return]

    view = reshape

    def permute(self, *dims: Any) -> Self:
        return shapes.permute_dims(self, axes=_flat(dims))  # type: ignore[no-any-return]

    def transpose(self, dim0: int, dim1: int) -> Self:
        """With two axes exchanged."""
        axes = list(range(self.ndim))
        axes[dim0], axes[dim1] = axes[dim1], axes[dim0]
        return self.permute(*axes)

    def t(self) -> Self:
        return self.T

    def flip(self, *dims: Any) -> Self:
        return shapes.flip(self, axis=_flat(dims))  # type: ignore[no-any-return]

    def unsqueeze(self, dim: int) -> Self:
        return shapes.expand_dims(self, axis=dim)  # type: ignore[no-any-return]

    def squeeze(self, dim: Any = None) -> Self:
        """Without axes of length 1: all of them, or those of `dim` that have it."""
        dims = range(self.ndim) if dim is None else dim if isinstance(dim, tuple) else (dim,)
        return shapes.squeeze(self, axis=tuple(i for i in dims if self.shape[i] == 1))  # type: ignore[no-any-return]

    def expand(self, *shape: Any) -> Self:
        """Broadcast to a shape; -1 keeps the length of an axis."""
        wanted = _flat(shape)
        own = (1,) * (len(wanted) - self.ndim) + self.shape
        full = tuple(m if n == -1 else n for n, m in zip(wanted, own, strict=True))
        return shapes.broadcast_to(self, shape=full)  # type: ignore[no-any-return]

    def flatten(self) -> Self:
        return self.reshape(-1)

    def __getitem__(self, key: Any) -> Self:
        return shapes.getitem(self, key=_plain(key))  # type: ignore[no-any-return]

    def __iter__(self) -> Iterator[Self]:
        return (self[i] for i in range(len(self)))

    # Out of the tape

    def item(self) -> Any:
        """The one element, as a Python number; ValueError if there are more or none."""
        if self.data.size != 1:
            raise ValueError(f"only a tensor of one element is a Python number; this one has shape {self.shape}")
        return self.data.item()

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __bool__(self) -> bool:
        return bool(self.item())

    def tolist(self) -> Any:
        return self.data.tolist()

    def numpy(self) -> np.ndarray[Any, Any]:
        """The array, for reading only: a write would go unseen by the tape. RuntimeError if the tensor requires grad."""
        if self.requires_grad:
            raise RuntimeError("a tensor that requires grad has no array to give away; use x.detach().numpy()")
        array: np.ndarray[Any, Any] = self.data.view()
        array.flags.writeable = False
        return array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        return np.array(self.numpy(), dtype, copy=copy)

    def detach(self) -> Self:
        """The same memory off the tape."""
        return type(self)(self.data)

    def clone(self) -> Self:
        """A copy in memory of its own, on the tape."""
        return _clone(self)  # type: ignore[no-any-return]

    def astype(self, dtype: Any) -> Self:
        """With elements of another dtype; gradients come back in this one's."""
        return _cast(self, dtype=dtype)  # type: ignore[no-any-return]

    to = type = astype

    def float(self) -> Self:
        return self.astype(np.float32)

    def double(self) -> Self:
        return self.astype(np.float64)

    def __repr__(self) -> str:
        body = np.array2string(self.data, separator=", ", prefix="tensor(")
        dtype = "" if self.dtype == np.float32 else f", dtype={self.dtype}"
        return f"tensor({body}{dtype}{', requires_grad=True' if self.requires_grad else ''})"

    # In place

    def _write(self, new: Any, *others: Any) -> Self:
        """Overwrite the elements; the tape will refuse to run a pullback that needed the old ones."""
        if is_tracking() and (self.requires_grad or any(getattr(y, "requires_grad", False) for y in others)):
            raise RuntimeError("an in-place update is not recorded: put it under no_grad(), or write x = x + y")
        if np.shape(new) not in ((), self.shape):
            raise ValueError(f"an in-place update cannot change the shape {self.shape} to {np.shape(new)}")
        self.data[...] = new
        writes.note_write(self.data, clock())
        return self

    def add_(self, other: Any, *, alpha: Any = 1) -> Self:
        """x += alpha * other."""
        return self._write(self.data + alpha * _plain(other), other)

    def sub_(self, other: Any, *, alpha: Any = 1) -> Self:
        """x -= alpha * other."""
        return self._write(self.data - alpha * _plain(other), other)

    def mul_(self, other: Any) -> Self:
        return self._write(self.data * _plain(other), other)

    def zero_(self) -> Self:
        return self._write(0)

    def copy_(self, other: Any) -> Self:
        return self._write(np.broadcast_to(_plain(other), self.shape), other)

    def uniform_(self, low: Any = 0.0, high: Any = 1.0, *, generator: np.random.Generator | None = None) -> Self:
        """Fill with random numbers from low (included) to high (excluded)."""
        return self._write((generator or _generator).uniform(low, high, self.shape))

    __iadd__, __isub__, __imul__ = add_, sub_, mul_

    # NumPy's functions

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if method == "__call__" and ufunc in _OF_NUMPY and not kwargs:
            return _OF_NUMPY[ufunc].apply(*inputs)
        if method == "__call__" and all(signature.endswith("->?") for signature in ufunc.types):
            return Tensor(np.asarray(ufunc(*map(_plain, inputs), **kwargs)))  # truth values have no derivative
        if method == "reduce" and ufunc is np.add:
            return r.sum(*inputs, **kwargs)
        raise TypeError(f"np.{ufunc.__name__} ({method}) has no rule for tensors; the ops are {', '.join(sorted(OPS))}")

    def __array_function__(self, function: Any, types: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if function not in _OF_NUMPY:
            raise TypeError(f"np.{function.__name__} has no rule for tensors; the ops are {', '.join(sorted(OPS))}")
        op = _OF_NUMPY[function]
        n = len(op.arguments)
        return op.apply(*args[:n], **dict(zip(op.keywords, args[n:], strict=False)), **kwargs)


_OF_NUMPY: dict[Any, Op] = {getattr(np, name): op for name, op in OPS.items() if hasattr(np, name)}


def tensor(data: Any, *, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A new leaf with a copy of the data: Python numbers and (nested) lists become float32, arrays keep their dtype."""
    plain = _plain(data)
    array = np.array(plain, dtype)
    if dtype is None and not hasattr(plain, "dtype") and array.dtype != np.bool_:
        array = array.astype(np.float32)
    return Tensor(array, requires_grad)


def zeros(*shape: Any, dtype: Any = np.float32, requires_grad: bool = False) -> Tensor:
    """A new leaf of zeros."""
    return Tensor(np.zeros(_flat(shape), dtype), requires_grad)


def ones(*shape: Any, dtype: Any = np.float32, requires_grad: bool = False) -> Tensor:
    """A new leaf of ones."""
    return Tensor(np.ones(_flat(shape), dtype), requires_grad)


def empty(*shape: Any, dtype: Any = np.float32, requires_grad: bool = False) -> Tensor:
    """A new leaf to be filled in place, as with `uniform_`."""
    return Tensor(np.empty(_flat(shape), dtype), requires_grad)


def arange(*bounds: Any, dtype: Any = np.float32, requires_grad: bool = False) -> Tensor:
    """A new leaf [start, start + step, ...] that ends before stop; arange(stop), (start, stop) or (start, stop, step)."""
    return Tensor(np.arange(*bounds, dtype=dtype), requires_grad)


def vjp(fn: Callable[..., Any], *inputs: Array) -> tuple[Array, Callable[[Array], tuple[Array, ...]]]:
    """`tape.vjp` with tensors: fn may use operators and methods besides ops."""
    return tape.vjp(fn, *inputs, kind=Tensor)
