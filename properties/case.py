"""One case: a call of an op with concrete arrays and a cotangent, and what the spec or a backend makes of it."""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import ml_dtypes
import numpy as np

from gradspec.backends import Backend, call
from gradspec.properties.generating.layouts import lay_out
from gradspec.reference import OPS, Op
from gradspec.reference.arrays import unbroadcast
from gradspec.reference.domains import Booleans, Integers, Interval
from gradspec.reference.tape import Array

MIN_KINK_DISTANCE = 1 / 32  # from kinks, for cases that are to be smooth
MAX_NUMBERS_SHOWN = 100  # numbers of an array that a report repeats


def dtype_of(name: str) -> np.dtype[Any]:
    """The NumPy dtype of this name; bfloat16 is that of ml_dtypes."""
    return np.dtype(ml_dtypes.bfloat16) if name == "bfloat16" else np.dtype(name)


def exact_dtype(dtype: str) -> np.dtype[Any]:
    """The dtype in which the spec counts as exact for results of this one."""
    return np.dtype(np.longdouble if dtype == "float64" else np.float64)


@dataclass(frozen=True)
class Case:
    """A call of `op`: its arrays (floats of `dtype`, int64 or bool), its keywords, a cotangent of the value's shape."""

    op: Op
    dtype: str
    inputs: tuple[Array, ...]
    keywords: dict[str, Any]
    cotangent: Array
    layouts: tuple[str, ...] = ()  # of the inputs and the cotangent, as a backend gets them; all "C" if empty

    @property
    def differentiable_inputs(self) -> tuple[int, ...]:
        """Which of the inputs have a gradient."""
        return self.op.differentiable_arguments(len(self.inputs))

    def map_float_arrays(self, convert: Callable[[Array], Array]) -> "Case":
        """The case with `convert` applied to the inputs that have a gradient and to the cotangent."""
        floats = {i for i, x in enumerate(self.inputs) if x.dtype.kind not in "biu"}
        inputs = tuple(convert(x) if i in floats else x for i, x in enumerate(self.inputs))
        return replace(self, inputs=inputs, cotangent=convert(self.cotangent))

    @classmethod
    def of(
        cls,
        op: str,
        dtype: str,
        inputs: Sequence[Any],
        keywords: dict[str, Any],
        cotangent: Any,
        layouts: tuple[str, ...] = (),
    ) -> "Case":
        """A case from nested lists or arrays, as a script would write it; arrays of labels or truth values stay as they are."""
        spec = OPS[op]
        kinds = {Integers: np.dtype(np.int64), Booleans: np.dtype(np.bool_), Interval: dtype_of(dtype)}
        arrays = tuple(
            np.array(x)
            if isinstance(x, np.ndarray) and type(spec.domain(i)) is not Interval
            else np.array(x, kinds[type(spec.domain(i))])
            for i, x in enumerate(inputs)
        )
        return cls(spec, dtype, arrays, keywords, np.array(cotangent, dtype_of(dtype)), layouts)

    def with_input(self, i: int, x: Array) -> "Case":
        """The case with another array as its i-th input."""
        return replace(self, inputs=(*self.inputs[:i], x, *self.inputs[i + 1 :]))

    def compute_kink_distances(self) -> tuple[Array, ...]:
        """How far each element of each input is from the nearest kink, in higher precision."""
        if self.op.kinks is None:
            return tuple(np.full(x.shape, np.inf) for x in self.inputs)
        wide = self.map_float_arrays(lambda x: x.astype(exact_dtype(self.dtype)))
        return self.op.kinks(*wide.inputs, **self.keywords)

    @property
    def is_smooth(self) -> bool:
        """Whether every element keeps its `DISTANCE` from kinks."""
        return not any(np.any(d < MIN_KINK_DISTANCE) for d in self.compute_kink_distances())

    def to_backend_arrays(self, backend: Backend) -> tuple[list[Any], Any]:
        """The inputs and the cotangent as arrays of a backend, in their layouts."""
        arrays = (*self.inputs, self.cotangent)
        layouts = self.layouts or ("C",) * len(arrays)
        *inputs, cotangent = (
            backend.from_numpy(lay_out(x, at)) for x, at in zip(arrays, layouts, strict=True)
        )
        return inputs, cotangent

    @property
    def without_defaults(self) -> "Case":
        """The case without the keywords that have their default values anyway."""
        defaults = self.op.defaults

        def is_default(name: str, value: Any) -> bool:
            return name in defaults and type(value) is type(defaults[name]) and value == defaults[name]

        return replace(self, keywords={k: v for k, v in self.keywords.items() if not is_default(k, v)})

    @property
    def target_name(self) -> str:
        """What the case is of, in a word."""
        return self.op.name

    def as_python(self) -> str:
        """The Python expression of this case, as a script that imports `Case`, `np`, `inf` and `nan` would write it."""
        inputs = "".join(f"        {self._format_input(i, x)},\n" for i, x in enumerate(self.inputs))
        keywords = ", ".join(f"{k!r}: {literal(v)}" for k, v in self.keywords.items())
        return (
            f"Case.of(\n    {self.op.name!r}, {self.dtype!r}, [\n{inputs}    ],\n"
            f"    {{{keywords}}}, {literal(self.cotangent)},{f' {self.layouts!r},' if self.layouts else ''}\n)"
        )

    def _format_input(self, i: int, x: Array) -> str:
        """An input as `of` takes it, with its dtype where that is the wrong one."""
        right = type(self.op.domain(i)) is Interval or x.dtype.kind in "biu"
        return literal(x) if right else f"np.array({literal(x)}, {x.dtype.name!r})"

    def as_lines(self) -> list[str]:
        """The case for people, a line for each array."""
        named = {self.op.argument_name(i): x for i, x in enumerate(self.inputs)} | self.keywords
        named["cotangent"] = self.cotangent
        width = max(map(len, named))
        lines = [f"in {self.dtype}", *(f"{name:{width}} = {_format_briefly(x)}" for name, x in named.items())]
        return (
            [*lines, f"layouts {', '.join(self.layouts)} (of the cotangent last)"] if self.layouts else lines
        )

    def as_json(self) -> dict[str, Any]:
        """The case for tools: arrays as literals with their shapes."""
        arrays = {self.op.argument_name(i): x for i, x in enumerate(self.inputs)} | {"cotangent": self.cotangent}
        described = {
            k: {"shape": x.shape, "dtype": str(x.dtype), "values": literal(x)} for k, x in arrays.items()
        }
        keywords = {k: literal(v) for k, v in self.keywords.items()}
        return {
            "op": self.op.name,
            "dtype": self.dtype,
            "arrays": described,
            "keywords": keywords,
            "layouts": self.layouts,
        }

    def __repr__(self) -> str:
        return self.as_python()


@dataclass(frozen=True)
class Result:
    """What came of a case: the value, and the gradient of each argument that has one, by the argument's name."""

    value: Array
    gradients: dict[str, Array]


def _format_briefly(x: Any) -> str:
    """A literal, or how many numbers there are if nobody would read them."""
    if isinstance(x, np.ndarray) and x.size > MAX_NUMBERS_SHOWN:
        return f"{x.size} numbers of shape {x.shape}, which the script has in full"
    return literal(x)


def literal(x: Any) -> str:
    """A short Python literal that is exactly x: an array as nested lists, a number with as few digits as identify it."""
    if isinstance(x, tuple):
        return f"({', '.join(map(_format_key_part, x))}{',' if len(x) == 1 else ''})"
    if not isinstance(x, np.ndarray):
        return repr(x)
    if x.size == 0:
        return f"np.empty({x.shape}{f', np.{x.dtype}' if x.dtype.kind in 'biu' else ''})"
    nested = _format_nested(x)
    return f"np.array({nested})" if x.dtype.kind in "biu" else nested


def _format_key_part(x: Any) -> str:
    """A literal of what is in a key, where nobody knows of which dtype an array ought to be."""
    floats = isinstance(x, np.ndarray) and x.dtype.kind not in "biu"
    return f"np.array({_format_nested(x)}, np.{x.dtype})" if floats else literal(x)


def _format_nested(x: Array) -> str:
    if x.dtype.kind in "biu":
        return str(x.tolist())

    def format_part(part: Any) -> str:
        if isinstance(part, list):
            return f"[{', '.join(map(format_part, part))}]"
        if part == 0:  # an integer 0 has no sign
            return "-0.0" if math.copysign(1, part) < 0 else "0"
        return _format_shortest(part, x.dtype)

    return format_part(x.astype(np.float64).tolist())


@lru_cache(4096)  # a large array has few different numbers
def _format_shortest(x: float, dtype: np.dtype[Any]) -> str:
    """With as few digits as identify the number in that dtype."""
    with warnings.catch_warnings(action="ignore"):  # with few digits the largest number overflows
        return next(s for digits in range(1, 40) if _is_same_number(dtype.type(s := f"{x:.{digits}g}"), x))


def _is_same_number(x: Any, y: Any) -> bool:
    return bool(x == y or (x != x and y != y))


def run_spec(case: Case) -> Result:
    """The value and gradients that the spec's rule gives, at the precision of the case's own arrays."""
    value, pullbacks = case.op.rule(*case.inputs, **case.keywords)
    if pullbacks is None:
        return Result(np.asarray(value), {})
    g = case.cotangent
    pulled: Sequence[Array] = pullbacks(g) if callable(pullbacks) else [p and p(g) for p in pullbacks]
    gradients = {}
    for i in case.differentiable_inputs:
        x, d = case.inputs[i], pulled[i]
        gradients[case.op.argument_name(i)] = np.asarray(
            d if d.shape == x.shape else unbroadcast(d, x.shape)
        ).astype(x.dtype)
    return Result(np.asarray(value), gradients)


def forward(backend: Backend, case: Case) -> Array:
    """The value that a backend computes, without its vjp."""
    arrays, _ = case.to_backend_arrays(backend)
    return backend.to_numpy(call(case.op, backend.ops[case.op.name], arrays, case.keywords))


def run_on_backend(backend: Backend, case: Case) -> Result:
    """What a backend makes of the case: by its vjp, or the value alone of an op that has no gradient."""
    return differentiate(backend, case) if case.differentiable_inputs else Result(forward(backend, case), {})


def differentiate(backend: Backend, case: Case) -> Result:
    """The value and gradients that a backend's vjp gives."""
    value, pull = value_and_pullback(backend, case)
    return Result(value, pull(case.cotangent))


def value_and_pullback(
    backend: Backend, case: Case, wrt: Sequence[int] | None = None
) -> tuple[Array, Callable[[Array], dict[str, Array]]]:
    """The value that a backend's vjp gives, and its pullback: from a cotangent to the gradients by argument.

    free: as `linearized` has it.
    """
    arrays, _ = case.to_backend_arrays(backend)
    wrt = case.differentiable_inputs if wrt is None else wrt
    value, pullback = call_backend_vjp(backend, case, arrays, wrt)
    layout = case.layouts[-1] if case.layouts else "C"

    def pull(g: Array) -> dict[str, Array]:
        gradients = pullback(backend.from_numpy(lay_out(g, layout)))
        if len(gradients) != len(wrt):
            raise TypeError(
                f"the pullback of {backend.name} returned {len(gradients)} gradients for {len(wrt)} inputs"
            )
        names = [case.op.argument_name(i) for i in wrt]
        return {n: backend.to_numpy(d) for n, d in zip(names, gradients, strict=True)}

    return backend.to_numpy(value), pull


def call_backend_vjp(
    backend: Backend, case: Case, arrays: Sequence[Any], wrt: Sequence[int] | None = None
) -> tuple[Any, Callable[[Any], Sequence[Any]]]:
    """What the backend's vjp makes of the case at these arrays of its own: a value and a pullback.

    free: by which of the arrays; by all that have a gradient unless given.
    """
    wrt = case.differentiable_inputs if wrt is None else wrt
    value, pullback = backend.vjp(bind_constants(backend, case, arrays, wrt), *(arrays[i] for i in wrt))
    return value, pullback


def bind_constants(backend: Backend, case: Case, arrays: Sequence[Any], wrt: Sequence[int]) -> Callable[..., Any]:
    """The op as a function of the `free` ones among its arrays, the others being as given."""
    fn = backend.ops[case.op.name]

    def function(*xs: Any) -> Any:
        given = dict(zip(wrt, xs, strict=True))
        return call(case.op, fn, [given.get(i, x) for i, x in enumerate(arrays)], case.keywords)

    return function
