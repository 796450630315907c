"""`Tensor`: the spec's arrays with torch's names, so that the same program runs on both."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Self

import numpy as np

from gradspec.reference import inplace_writes, tape
from gradspec.reference.axes import dim_to_axis, normalize_axes, unpack_integers
from gradspec.reference.conversions import convert_argument
from gradspec.reference.derived import run_formulas_on
from gradspec.reference.dispatch import NumPyVariable, unwrap
from gradspec.reference.grad_mode import is_grad_enabled
from gradspec.reference.op import Op
from gradspec.reference.ops import activations, linalg, nn, places, shapes
from gradspec.reference.ops import elementwise as e
from gradspec.reference.ops import reductions as r
from gradspec.reference.random_numbers import generator
from gradspec.reference.record import record
from gradspec.reference.rule import VJP, Array
from gradspec.reference.tape import sequence_numbers


def _swap_arguments(op: Op) -> Callable[..., Any]:
    return lambda self, other: op.apply(other, self)


def _make_reduction_method(op: Op) -> Callable[..., Any]:
    """Return a reduction as a method, with torch's names for `axis` and `keepdims`."""

    def method(self: "Tensor", dim: Any = None, keepdim: bool = False) -> "Tensor":
        result: Tensor = op.apply(self, axis=dim_to_axis(dim), keepdims=keepdim)
        return result

    method.__doc__ = f"Return the op `{op.name}` over the axes `dim`: None (all), an integer or a tuple."
    return method


@record
def _cast(x: Array, *, dtype: Any) -> VJP:
    return x.astype(dtype), None if np.dtype(dtype).kind in "biu" else (lambda g: g,)


@record
def _clone(x: Array) -> VJP:
    return x.copy(), (lambda g: g,)


class Sorted(NamedTuple):
    """The values and indices that `Tensor.sort` returns."""

    values: "Tensor"
    indices: "Tensor"


@run_formulas_on
class Tensor(NumPyVariable):
    """A NumPy array that knows how it was computed; behaves like a small `torch.Tensor`.

    Operators and methods broadcast as NumPy does. A result requires grad if an input does, except under
    `no_grad`. After `backward()` leaves have their gradient in `grad`, and further calls add to it.
    """

    __slots__ = ()

    def __init__(self, data: Any, requires_grad: bool = False) -> None:
        """Make a leaf of an array, which is not copied, or of a (nested) list of numbers, as float32.

        Raises:
            TypeError: for a number, which torch takes for a length.
        """
        if not isinstance(data, np.ndarray):
            data = convert_argument(data)
        super().__init__(data, requires_grad)

    # Operators and elementwise methods are the ops themselves: a wrapper would cost as much as multiplying
    # small arrays.

    __hash__ = object.__hash__
    __neg__ = neg = e.negative.apply
    __abs__ = abs = e.abs.apply
    __add__ = add = e.add.apply
    __sub__ = sub = e.subtract.apply
    __mul__ = mul = e.multiply.apply
    __truediv__ = div = e.divide.apply
    __pow__ = pow = e.pow.apply
    __matmul__ = matmul = linalg.matmul.apply
    __radd__ = _swap_arguments(e.add)
    __rsub__ = _swap_arguments(e.subtract)
    __rmul__ = _swap_arguments(e.multiply)
    __rtruediv__ = _swap_arguments(e.divide)
    __rpow__ = _swap_arguments(e.pow)
    __rmatmul__ = _swap_arguments(linalg.matmul)
    __eq__ = eq = e.equal.apply
    __lt__ = lt = e.less.apply
    __gt__ = gt = e.greater.apply
    ne, le, ge = NumPyVariable.__ne__, NumPyVariable.__le__, NumPyVariable.__ge__
    exp, expm1, log, log1p, sqrt = e.exp.apply, e.expm1.apply, e.log.apply, e.log1p.apply, e.sqrt.apply
    square, reciprocal, sign = e.square.apply, e.reciprocal.apply, e.sign.apply
    sin, cos = e.sin.apply, e.cos.apply
    tanh, sigmoid, relu = e.tanh.apply, activations.sigmoid.apply, activations.relu.apply
    maximum, minimum = e.maximum.apply, e.minimum.apply

    sum = _make_reduction_method(r.sum)
    mean = _make_reduction_method(r.mean)
    prod = _make_reduction_method(r.prod)
    logsumexp = _make_reduction_method(r.logsumexp)
    amax = _make_reduction_method(r.max)
    amin = _make_reduction_method(r.min)
    argmax = _make_reduction_method(r.argmax)
    argmin = _make_reduction_method(r.argmin)

    def max(self) -> Self:
        """Return the largest of all elements; amax(dim) is the one along axes."""
        return r.max(self)  # type: ignore[no-any-return]

    def min(self) -> Self:
        """Return the smallest of all elements; amin(dim) is the one along axes."""
        return r.min(self)  # type: ignore[no-any-return]

    def var(self, dim: Any = None, *, correction: float = 1, keepdim: bool = False) -> Self:
        """Return the variance; as in torch, and unlike in the op `var`, the correction is 1 by default."""
        return r.var(self, axis=dim_to_axis(dim), correction=correction, keepdims=keepdim)  # type: ignore[no-any-return]

    def clamp(self, min: Any = None, max: Any = None) -> Self:
        return e.clip(self, min, max)  # type: ignore[no-any-return]

    def softmax(self, dim: int) -> Self:
        return nn.softmax(self, axis=dim)  # type: ignore[no-any-return]

    def log_softmax(self, dim: int) -> Self:
        return nn.log_softmax(self, axis=dim)  # type: ignore[no-any-return]

    # Shapes

    @property
    def T(self) -> Self:  # noqa: N802
        return self.permute(*reversed(range(self.ndim)))

    @property
    def mT(self) -> Self:  # noqa: N802
        return shapes.matrix_transpose(self)  # type: ignore[no-any-return]

    def size(self, dim: int | None = None) -> Any:
        """Return the shape, or the length of one axis."""
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
        return shapes.reshape(self, shape=unpack_integers(shape))  # type: ignore[no-any-return]

    view = reshape

    def permute(self, *dims: Any) -> Self:
        return shapes.permute_dims(self, axes=unpack_integers(dims))  # type: ignore[no-any-return]

    def transpose(self, dim0: int, dim1: int) -> Self:
        """Return the tensor with two axes exchanged."""
        axes = list(range(self.ndim))
        if self.ndim or normalize_axes(dim0, 0) + normalize_axes(dim1, 0):
            axes[dim0], axes[dim1] = axes[dim1], axes[dim0]
        return self.permute(*axes)

    def t(self) -> Self:
        return self.T

    def flip(self, *dims: Any) -> Self:
        return shapes.flip(self, axis=unpack_integers(dims))  # type: ignore[no-any-return]

    def unsqueeze(self, dim: int) -> Self:
        return shapes.expand_dims(self, axis=dim)  # type: ignore[no-any-return]

    def squeeze(self, dim: Any = None) -> Self:
        """Return the tensor without axes of length 1: all of those, or only those in `dim`."""
        dims = normalize_axes(dim, self.ndim)
        return shapes.squeeze(self, axis=tuple(i for i in dims if self.shape[i] == 1))  # type: ignore[no-any-return]

    def expand(self, *shape: Any) -> Self:
        """Broadcast to a shape; -1 keeps the length of an axis."""
        lengths = unpack_integers(shape)
        own_lengths = (1,) * (len(lengths) - self.ndim) + self.shape
        full = tuple(m if n == -1 else n for n, m in zip(lengths, own_lengths, strict=True))
        return shapes.broadcast_to(self, shape=full)  # type: ignore[no-any-return]

    def unbind(self, dim: int = 0) -> tuple[Self, ...]:
        """Return the slices along an axis, each without it."""
        return shapes.unstack(self, axis=dim)  # type: ignore[no-any-return]

    def sort(self, dim: int = -1, descending: bool = False) -> "Sorted":
        """Return the elements in order along an axis, and their indices; the order is stable."""
        return Sorted(*places.sort(self, axis=dim, descending=descending))

    def argsort(self, dim: int = -1, descending: bool = False) -> Self:
        return self.sort(dim, descending).indices  # type: ignore[return-value]

    def flatten(self) -> Self:
        return self.reshape(-1)

    def __getitem__(self, key: Any) -> Self:
        return shapes.getitem(self, key=unwrap(key))  # type: ignore[no-any-return]

    def __iter__(self) -> Iterator[Self]:
        return (self[i] for i in range(len(self)))

    # Off the tape, and copies

    def item(self) -> Any:
        """Return the only element as a Python number.

        Raises:
            RuntimeError: if there are more elements or none.
        """
        return self._get_only_element(RuntimeError)

    def _get_only_element(self, error: type[Exception]) -> Any:
        if self.data.size != 1:
            raise error(f"only a tensor of one element is a Python number; this one has shape {self.shape}")
        return self.data.item()

    def __float__(self) -> float:
        return float(self._get_only_element(ValueError))  # torch's errors, here and above

    def __int__(self) -> int:
        return int(self._get_only_element(ValueError))

    def __bool__(self) -> bool:
        """Return whether the only element is not 0.

        Raises:
            RuntimeError: if there are more elements or none.
        """
        if self.data.size != 1:
            raise RuntimeError(
                f"a tensor of shape {self.shape} is neither true nor false: "
                "only one of one element is; say which elements count, as in (x > 0).numpy().all()"
            )
        return bool(self.data.item())

    def tolist(self) -> Any:
        return self.data.tolist()

    def numpy(self) -> np.ndarray[Any, Any]:
        """Return the array, read-only: the tape would not notice a write to it.

        Raises:
            RuntimeError: if the tensor requires grad.
        """
        if self.requires_grad:
            raise RuntimeError(
                "numpy() cannot be called on a tensor that requires grad; use x.detach().numpy()"
            )
        array: np.ndarray[Any, Any] = self.data.view()
        array.flags.writeable = False
        return array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray[Any, Any]:
        return np.array(self.numpy(), dtype, copy=copy)

    def clone(self) -> Self:
        """Return a copy in memory of its own, on the tape."""
        return _clone(self)  # type: ignore[no-any-return]

    def astype(self, dtype: Any) -> Self:
        """Return the tensor in another dtype; gradients come back in the dtype of this one."""
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
        """Overwrite the elements; the tape will refuse to run a pullback that needs the old ones.

        Args:
            new: the new elements, of the same shape or a single number.
            *others: what they were computed from.

        Raises:
            RuntimeError: outside `no_grad`, if the tensor or one of the others requires grad.
            ValueError: if the new elements have another shape.
        """
        requires_grad = self.requires_grad or any(getattr(y, "requires_grad", False) for y in others)
        if requires_grad and is_grad_enabled():
            raise RuntimeError(
                "an in-place update is not recorded: put it under no_grad(), or write x = x + y"
            )
        if np.shape(new) not in ((), self.shape):
            raise ValueError(f"an in-place update cannot change the shape {self.shape} to {np.shape(new)}")
        np.copyto(self.data, new, casting="same_kind")
        inplace_writes.note_write(self.data, next(sequence_numbers))
        return self

    def add_(self, other: Any, *, alpha: Any = 1) -> Self:
        """Add in place: `x += alpha * other`."""
        return self._write(self.data + alpha * unwrap(other), other)

    def sub_(self, other: Any, *, alpha: Any = 1) -> Self:
        """Subtract in place: `x -= alpha * other`."""
        return self._write(self.data - alpha * unwrap(other), other)

    def mul_(self, other: Any) -> Self:
        return self._write(self.data * unwrap(other), other)

    def zero_(self) -> Self:
        return self._write(0)

    def copy_(self, other: Any) -> Self:
        return self._write(np.broadcast_to(unwrap(other), self.shape), other)

    def uniform_(
        self, low: Any = 0.0, high: Any = 1.0, *, generator: np.random.Generator = generator
    ) -> Self:
        """Fill with random numbers from low (included) to high (excluded); see `manual_seed`."""
        return self._write(generator.uniform(low, high, self.shape))

    __iadd__, __isub__, __imul__ = add_, sub_, mul_


def vjp(fn: Callable[..., Any], *inputs: Array) -> tuple[Any, Callable[..., tuple[Array, ...]]]:
    """Return what `tape.vjp` returns, with tensors: fn may use operators and methods besides ops."""
    return tape.vjp(fn, *inputs, variable_class=Tensor)
