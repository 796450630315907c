"""A fake `cupy` for machines without a GPU: arrays in NumPy's memory that are as strict as CuPy's.

They answer to NumPy's functions through its two protocols, as CuPy's do, and only to functions that the
installed CuPy has, called with arguments that it takes. They do not mix with NumPy arrays, do not become
NumPy arrays by themselves, are arrays where NumPy makes scalars, start as NaN where nobody has written yet,
and count how often somebody waits for the device.
"""

import importlib
import inspect
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from tests.stand_ins import cuda_emulation

real_cupy: Any = importlib.import_module("cupy")
"""The installed CuPy: it can be imported without a GPU, and tells which functions it has."""

wait_count = 0
"""How often somebody has waited for the device."""


class Pointer:
    """A place in memory, like `cupy.cuda.MemoryPointer`: `offset` bytes after the start of an array."""

    def __init__(self, owner: np.ndarray[Any, Any], offset: int = 0) -> None:
        self.owner, self.offset = owner, offset

    @property
    def ptr(self) -> int:
        return int(self.owner.__array_interface__["data"][0]) + self.offset

    def __add__(self, offset: int) -> "Pointer":
        return Pointer(self.owner, self.offset + offset)

    def memset_async(self, value: int, size: int) -> None:
        self.owner[self.offset : self.offset + size] = value


def malloc(size: int) -> Pointer:
    """Return memory that is NaN until somebody writes to it."""
    return Pointer(np.full(size, 0xFF, np.uint8))


allocator_stack = [malloc]
"""The last one is the allocator that arrays get their memory from."""


@contextmanager
def using_allocator(allocator: Any) -> Iterator[None]:
    allocator_stack.append(allocator or malloc)
    yield
    allocator_stack.pop()


class ndarray(np.lib.mixins.NDArrayOperatorsMixin):  # noqa: N801 - CuPy's name
    """A CuPy array whose elements are those of `array`."""

    device = "cuda:0"
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, shape: Any, dtype: Any = float, memptr: Any = None, strides: Any = None) -> None:
        self.base: Any = None
        if memptr is None:
            memptr = allocator_stack[-1](np.empty(shape, dtype).nbytes)
        self.array = np.ndarray(shape, dtype, memptr.owner, memptr.offset, strides)

    @property
    def data(self) -> Pointer:
        return Pointer(self.array)

    @property
    def flags(self) -> Any:
        c_contiguous, f_contiguous = self.array.flags.c_contiguous, self.array.flags.f_contiguous
        owns_data = self.base is None
        return SimpleNamespace(c_contiguous=c_contiguous, f_contiguous=f_contiguous, owndata=owns_data)

    def __getattr__(self, name: str) -> Any:
        if name in {"shape", "dtype", "ndim", "size", "strides", "itemsize", "nbytes"}:
            return getattr(self.array, name)
        raise AttributeError(f"the stand-in for cupy.ndarray has no {name!r}")

    # NumPy's protocols

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()`.")

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **keywords: Any) -> Any:
        if method != "__call__" or not hasattr(real_cupy, ufunc.__name__):
            return NotImplemented
        if any(not isinstance(x, ndarray | np.ndarray | np.generic | int | float) for x in inputs):
            return NotImplemented
        return call_numpy(ufunc, *inputs, **keywords)

    def __array_function__(self, function: Any, types: Any, args: Any, keywords: Any) -> Any:
        if not all(issubclass(t, ndarray | np.ndarray) for t in types):
            return NotImplemented
        real_function = getattr(real_cupy, function.__name__)
        inspect.signature(real_function).bind(*args, **keywords)
        return call_numpy(getattr(function, "_implementation", function), *args, **keywords)

    # Elements

    def __getitem__(self, key: Any) -> Any:
        key = unwrap(key)
        if isinstance(self.array[key], np.generic):  # CuPy gives a view with no dimensions
            key = (*key, ...) if isinstance(key, tuple) else (key, ...)
        return wrap(self.array[key], self)

    def __setitem__(self, key: Any, x: Any) -> None:
        self.array[unwrap(key)] = unwrap(x)

    def __len__(self) -> int:
        return len(self.array)

    def reshape(self, *shape: Any) -> Any:
        return call_numpy(np.ndarray.reshape, self, *shape)

    def transpose(self, *axes: Any) -> Any:
        return call_numpy(np.ndarray.transpose, self, *axes)

    def view(self, dtype: Any) -> Any:
        return call_numpy(np.ndarray.view, self, dtype)

    def any(self) -> Any:
        return call_numpy(np.ndarray.any, self)

    def astype(self, dtype: Any, copy: bool = True) -> Any:
        return call_numpy(np.ndarray.astype, self, dtype, copy=copy)

    def copy(self) -> Any:
        return wrap(self.array.copy())

    def get(self) -> np.ndarray[Any, Any]:
        count_wait()
        return self.array.copy()

    def __bool__(self) -> bool:
        return bool(self.get())

    def __int__(self) -> int:
        return int(self.get())

    def __float__(self) -> float:
        return float(self.get())


def wrap(x: Any, *owners: Any) -> Any:
    """Return a result of NumPy as CuPy would: an array, and a view of the owner whose memory it shares."""
    if isinstance(x, tuple | list):
        return type(x)(wrap(a, *owners) for a in x)
    if not isinstance(x, np.ndarray | np.generic):
        return x
    wrapped = object.__new__(ndarray)
    wrapped.array = np.asarray(x)
    owner = next((a for a in owners if np.may_share_memory(a.array, wrapped.array)), None)
    # The base of a view is never a view itself.
    wrapped.base = owner if owner is None or owner.base is None else owner.base
    return wrapped


def unwrap(x: Any) -> Any:
    """Return the elements of a CuPy array, also within tuples and lists.

    Raises:
        TypeError: There is a NumPy array.
    """
    if isinstance(x, tuple | list):
        return type(x)(map(unwrap, x))
    if isinstance(x, np.ndarray):
        raise TypeError("Unsupported type <class 'numpy.ndarray'>")
    return x.array if isinstance(x, ndarray) else x


def call_numpy(function: Any, *args: Any, **keywords: Any) -> Any:
    """Call a function of NumPy on CuPy arrays."""
    flat = [a for x in args for a in (x if isinstance(x, tuple | list) else [x])]
    unwrapped = [unwrap(x) for x in args]
    is_narrow = getattr(unwrapped[0], "itemsize", 0) == 2
    if is_narrow and function is np.matmul:  # cuBLAS adds up in float32
        result = function(*(x.astype(np.float32) for x in unwrapped)).astype(unwrapped[0].dtype)
    else:
        result = function(*unwrapped, **{k: unwrap(x) for k, x in keywords.items()})
    return wrap(result, *(x for x in flat if isinstance(x, ndarray)))


def count_wait() -> None:
    global wait_count  # noqa: PLW0603
    wait_count += 1


class UfuncWithAt:
    """`cupy.add` with its method `at`, which NumPy's protocol does not reach."""

    def __init__(self, ufunc: np.ufunc) -> None:
        self.ufunc = ufunc

    def __call__(self, *args: Any) -> Any:
        return call_numpy(self.ufunc, *args)

    def at(self, x: Any, key: Any, y: Any) -> None:
        self.ufunc.at(x.array, unwrap(key), unwrap(y))


class Stream:
    """A stream that records its captures, and the launches of the graphs that it captures, as events."""

    def __init__(self, non_blocking: bool = False) -> None:
        self.events: list[str] = stream_events

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *_: Any) -> None:
        pass

    def synchronize(self) -> None:
        self.events.append("synchronize")

    def begin_capture(self) -> None:
        self.events.append("begin")

    def end_capture(self) -> Any:
        self.events.append("end")
        return SimpleNamespace(launch=lambda stream: self.events.append("launch"))


stream_events: list[str] = []
"""What has happened on all streams."""


def asarray(x: Any, dtype: Any = None) -> Any:
    return x if isinstance(x, ndarray) else wrap(np.array(x, dtype))


def make_raw_module(code: str, options: Any = (), name_expressions: Any = ()) -> Any:
    """Return kernels for g++: those of a file are compiled together, since g++ takes long to start."""
    launch = importlib.import_module("gradspec.backends.cupy.launch")
    (name,) = name_expressions
    width = int(re.findall(r",(\d+)", name)[0]) if "," in name else 1
    dtype = next(dtype for dtype, kind in launch.C_TYPES.items() if re.search(rf"<{kind}\b", name))
    files = (launch.list_kernel_names(file, dtype, width) for file in launch.KERNELS_BY_FILE)
    names = next((names for names in files if name in names), [name])
    return cuda_emulation.RawModule(code, options, names)


_rng = np.random.default_rng(0)


@cache
def make_cupy_module() -> ModuleType:
    """Return the fake module `cupy`."""
    cupy = ModuleType("cupy")
    for name in ("moveaxis", "arange", "concatenate", "sum", "any"):
        function = getattr(np, name)
        setattr(cupy, name, lambda *args, function=function, **k: call_numpy(function, *args, **k))
    stream = SimpleNamespace(synchronize=count_wait, ptr=0)
    vars(cupy).update(
        ndarray=ndarray,
        empty=ndarray,
        empty_like=lambda x, dtype=None: ndarray(x.shape, dtype or x.dtype),
        zeros=lambda shape, dtype=float: wrap(np.zeros(shape, dtype)),
        asarray=asarray,
        asnumpy=lambda x: x.get(),
        add=UfuncWithAt(np.add),
        ascontiguousarray=lambda x: x if x.array.flags.c_contiguous else wrap(np.ascontiguousarray(x.array)),
        random=SimpleNamespace(
            standard_normal=lambda shape: wrap(_rng.standard_normal(shape)),
            randint=lambda low, high, size: wrap(_rng.integers(low, high, size)),
        ),
        RawModule=make_raw_module,
        RawKernel=lambda code, name: cuda_emulation.RawModule(code, (), [name]).get_function(name),
        is_available=lambda: True,
        uint8=np.uint8,
        int32=np.int32,
        float32=np.float32,
        float64=np.float64,
        cuda=SimpleNamespace(
            get_current_stream=lambda: stream,
            runtime=SimpleNamespace(getDevice=lambda: 0),
            MemoryPool=lambda: SimpleNamespace(malloc=None),
            get_allocator=lambda: allocator_stack[-1],
            using_allocator=using_allocator,
            Stream=Stream,
            Device=lambda _: SimpleNamespace(attributes={"MultiProcessorCount": 2}),
        ),
    )
    return cupy


def erfc(x: Any) -> Any:
    """`cupyx.scipy.special.erfc`."""
    return call_numpy(lambda a: np.vectorize(math.erfc, otypes=[a.dtype])(a) if a.size else a.copy(), x)
