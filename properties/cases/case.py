"""One case: a call of an op with concrete arrays and a cotangent, and what the spec or a backend makes of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import ml_dtypes
import numpy as np

from gradspec.backends import Backend
from gradspec.properties.cases.layouts import lay_out
from gradspec.properties.cases.literals import format_briefly, literal
from gradspec.reference import OPS, Op
from gradspec.reference.domains import Booleans, Integers, Interval
from gradspec.reference.rule import Array

MIN_KINK_DISTANCE = 1 / 32  # from kinks, for cases that are to be smooth


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
        lines = [f"in {self.dtype}", *(f"{name:{width}} = {format_briefly(x)}" for name, x in named.items())]
        return (
            [*lines, f"layouts {', '.join(self.layouts)} (of the cotangent last)"] if self.layouts else lines
        )

    def as_json(self) -> dict[str, Any]:
        """The case for tools: arrays as literals with their shapes."""
        arrays = {self.op.argument_name(i): x for i, x in enumerate(self.inputs)} | {
            "cotangent": self.cotangent
        }
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
