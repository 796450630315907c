"""A case: a call of an op with concrete arrays and a cotangent."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import ml_dtypes
import numpy as np

from gradspec.backends import Backend
from gradspec.backends.addresses import find_op
from gradspec.properties.cases.layouts import lay_out
from gradspec.properties.cases.literals import format_briefly, literal
from gradspec.reference import Op
from gradspec.reference.domains import Booleans, Integers, Interval
from gradspec.reference.rule import Array

MIN_KINK_DISTANCE = 1 / 32  # of every element of a smooth case


def dtype_of(name: str) -> np.dtype[Any]:
    """Return the NumPy dtype of this name; bfloat16 is the one of ml_dtypes."""
    return np.dtype(ml_dtypes.bfloat16) if name == "bfloat16" else np.dtype(name)


def exact_dtype(dtype: str) -> np.dtype[Any]:
    """Return the dtype in which the spec counts as exact for results in `dtype`."""
    return np.dtype(np.longdouble if dtype == "float64" else np.float64)


def widen_where_declared(op: Op, i: int, x: Array) -> Array:
    """Return the i-th array of a call in float32, if it is of 16 bits and its domain asks for that."""
    domain = op.domain(i)
    is_narrow = isinstance(domain, Interval) and domain.at_least_float32 and x.dtype.itemsize == 2
    return x.astype(np.float32) if is_narrow else x


@dataclass(frozen=True)
class Case:
    """A call of an op with concrete arrays and keywords, and a cotangent.

    Attributes:
        op: The op; if it has several values, with one of them picked, which the case is about.
        dtype: The name of the dtype of all floats among the arrays; but where it is one of 16 bits, those
            arguments are float32 whose domain says so.
        inputs: Arrays of floats, int64 or bool, as the op's domains demand.
        keywords: The keyword arguments.
        cotangent: An array of the value's shape.
        layouts: The layouts in which a backend gets the inputs and, last, the cotangent; all "C" if empty.
    """

    op: Op
    dtype: str
    inputs: tuple[Array, ...]
    keywords: dict[str, Any]
    cotangent: Array
    layouts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.op.has_mixed_dtypes:
            inputs = tuple(widen_where_declared(self.op, i, x) for i, x in enumerate(self.inputs))
            object.__setattr__(self, "inputs", inputs)

    @property
    def differentiable_inputs(self) -> tuple[int, ...]:
        """The numbers of the inputs that have a gradient."""
        return self.op.differentiable_arguments(len(self.inputs))

    def map_float_arrays(self, convert: Callable[[Array], Array]) -> "Case":
        """Return the case with `convert` applied to its inputs of floats and to the cotangent."""
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
        *,
        picked: int | None = None,
    ) -> "Case":
        """Build a case from nested lists or arrays, as a script writes it.

        Arrays of labels or truth values keep their dtype; everything else gets the one its domain demands.

        Args:
            op: The address of the op.
            dtype: The name of the dtype of all floats.
            inputs: The array arguments.
            keywords: The keyword arguments.
            cotangent: The cotangent of the value.
            layouts: As of the class.
            picked: Of an op of several values, the number of the one that the case is about.
        """
        spec = find_op(op) if picked is None else find_op(op).pick(picked)
        kinds = {Integers: np.dtype(np.int64), Booleans: np.dtype(np.bool_), Interval: dtype_of(dtype)}

        def convert(i: int, x: Any) -> Array:
            domain = spec.domain(i)
            if isinstance(x, np.ndarray) and type(domain) is not Interval:
                return np.array(x)
            is_wide = isinstance(domain, Interval) and domain.at_least_float32
            dtype = np.float32 if is_wide and kinds[Interval].itemsize == 2 else kinds[type(domain)]
            return np.array(x, dtype)

        arrays = tuple(convert(i, x) for i, x in enumerate(inputs))
        return cls(spec, dtype, arrays, keywords, np.array(cotangent, dtype_of(dtype)), layouts)

    def with_input(self, i: int, x: Array) -> "Case":
        """Return the case with another array as its i-th input."""
        return replace(self, inputs=(*self.inputs[:i], x, *self.inputs[i + 1 :]))

    def settle(self) -> "Case":
        """Return the case with arguments that constrain each other moved to where the op is defined."""
        if self.op.settle is None:
            return self
        return replace(self, inputs=self.op.settle_arguments(self.inputs, self.keywords))

    @property
    def is_settled(self) -> bool:
        """Whether the op is defined for all its arguments together."""
        return self.op.is_defined(self.inputs, self.keywords)

    def compute_kink_distances(self) -> tuple[Array, ...]:
        """Return, for each input, how far each element is from the nearest kink, in higher precision."""
        if self.op.kinks is None:
            return tuple(np.full(x.shape, np.inf) for x in self.inputs)
        wide = self.map_float_arrays(lambda x: x.astype(exact_dtype(self.dtype)))
        return self.op.kinks(*wide.inputs, **self.keywords)

    @property
    def is_smooth(self) -> bool:
        """Whether no element is closer to a kink than `MIN_KINK_DISTANCE`."""
        return not any(np.any(d < MIN_KINK_DISTANCE) for d in self.compute_kink_distances())

    def to_backend_arrays(self, backend: Backend) -> tuple[list[Any], Any]:
        """Return the inputs and the cotangent as arrays of a backend, in their layouts."""
        arrays = (*self.inputs, self.cotangent)
        layouts = self.layouts or ("C",) * len(arrays)
        *inputs, cotangent = (
            backend.from_numpy(lay_out(x, layout)) for x, layout in zip(arrays, layouts, strict=True)
        )
        return inputs, cotangent

    @property
    def without_defaults(self) -> "Case":
        """The case without the keywords whose values are the defaults."""
        defaults = self.op.defaults

        def is_default(name: str, value: Any) -> bool:
            return name in defaults and type(value) is type(defaults[name]) and value == defaults[name]

        return replace(self, keywords={k: v for k, v in self.keywords.items() if not is_default(k, v)})

    @property
    def target_name(self) -> str:
        """The address of the op."""
        return self.op.address

    def as_python(self) -> str:
        """Return a Python expression of the case, for scripts that import `Case`, `np`, `inf` and `nan`."""
        inputs = "".join(f"        {self._format_input(i, x)},\n" for i, x in enumerate(self.inputs))
        keywords = ", ".join(f"{k!r}: {literal(v)}" for k, v in self.keywords.items())
        layouts = f" {self.layouts!r}," if self.layouts else ""
        picked = "" if self.op.picked is None else f" picked={self.op.picked},"
        return (
            f"Case.of(\n    {self.op.address!r}, {self.dtype!r}, [\n{inputs}    ],\n"
            f"    {{{keywords}}}, {literal(self.cotangent)},{layouts}{picked}\n)"
        )

    def _format_input(self, i: int, x: Array) -> str:
        """Return an input as `of` takes it, with its dtype where `of` would give it another."""
        has_right_dtype = type(self.op.domain(i)) is Interval or x.dtype.kind in "biu"
        return literal(x) if has_right_dtype else f"np.array({literal(x)}, {x.dtype.name!r})"

    def as_lines(self) -> list[str]:
        """Return the case as people read it, one line for each array."""
        arguments = {self.op.argument_name(i): x for i, x in enumerate(self.inputs)} | self.keywords
        arguments["cotangent"] = self.cotangent
        width = max(map(len, arguments))
        of_value = "" if self.op.picked is None else f", value {self.op.picked}"
        lines = [
            f"in {self.dtype}{of_value}",
            *(f"{k:{width}} = {format_briefly(x)}" for k, x in arguments.items()),
        ]
        names = [*(self.op.argument_name(i) for i in range(len(self.inputs))), "cotangent"]
        others = [(n, layout) for n, layout in zip(names, self.layouts, strict=False) if layout != "C"]
        return [*lines, *(f"layout of {name}: {layout}" for name, layout in others)]

    def as_json(self) -> dict[str, Any]:
        """Return the case as tools read it: arrays as literals, with their shapes and dtypes."""
        arrays = {self.op.argument_name(i): x for i, x in enumerate(self.inputs)}
        arrays["cotangent"] = self.cotangent
        return {
            "op": self.op.address,
            "dtype": self.dtype,
            "arrays": {
                name: {"shape": x.shape, "dtype": str(x.dtype), "values": literal(x)}
                for name, x in arrays.items()
            },
            "keywords": {k: literal(v) for k, v in self.keywords.items()},
            "layouts": self.layouts,
            **({} if self.op.picked is None else {"picked": self.op.picked}),
        }

    def __repr__(self) -> str:
        return self.as_python()
