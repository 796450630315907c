"""The rule of a plain function of torch, by which the judge runs it as it runs an op of the spec.

In higher precision it is run in float64, with torch's own autograd. For the noise it is run in float32 with
the result of every operation, forward and backward, moved by a unit of the dtype in question. Second
derivatives are torch's of its own gradients.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from importlib import import_module
from typing import Any

import numpy as np

from gradspec.properties.cases.observed.sums import is_noting_sums, note_sum
from gradspec.properties.judging.jitter import JitteredArray, JitterSource, get_jitter
from gradspec.reference.domains import Domain, Interval
from gradspec.reference.formula_checks import list_values
from gradspec.reference.record import record
from gradspec.reference.rule import VJP, Array
from gradspec.reference.tape import Variable

FUNCTIONS = "gradspec.backends.torch_functions"
DECOMPOSITIONS = "gradspec.backends.torch_decompositions"
"""The modules that run functions of torch, imported once there is one."""


class TorchRule:
    """The rule of a function of torch: of arrays, or of variables of the tape.

    Attributes:
        function: The function.
        wrt: The numbers of the arrays that have a gradient.
        has_several_values: Whether it returns a tuple, as far as is known.
    """

    def __init__(
        self, function: Callable[..., Any], subject: str, hint: str, domains: Sequence[Domain]
    ) -> None:
        """Make the rule of a function.

        Args:
            function: The function.
            subject: What messages begin with: what it is called.
            hint: What a message ends with that says what the function raised.
            domains: The domains of its arrays.
        """
        self.has_several_values = True
        self.function, self.subject, self.hint, self.domains = function, subject, hint, domains
        self.wrt = [i for i, d in enumerate(domains) if isinstance(d, Interval) and d.has_gradient]

    def __call__(self, *args: Any, **keywords: Any) -> VJP:
        if any(isinstance(x, Variable) for x in args):
            # The tape asks for pullbacks that it can record, and has the value.
            value = self._op(args, **keywords) if self.has_several_values else None
            return value, lambda *gs: self._spread(self._gradient_op([*args, *gs], **keywords))
        view = _view_as_jittered if _are_jittered(args) else np.asarray
        value, pull = self.run(args, keywords)
        values = tuple(map(view, list_values(value)))
        self.has_several_values = isinstance(value, tuple)
        result = values if isinstance(value, tuple) else values[0]
        if not self.wrt or all(v.dtype.kind in "biu" for v in values):
            return result, None

        def pull_all(*gs: Array) -> tuple[Array | None, ...]:
            zeros = [np.zeros_like(args[i]) for i in self.wrt]
            return self._spread([view(z if d is None else d) for z, d in zip(zeros, pull(*gs), strict=True)])

        return result, pull_all

    def run(
        self, arrays: Sequence[Array], keywords: dict[str, Any]
    ) -> tuple[Any, Callable[..., list[Array | None]]]:
        """Return the value at arrays, and the pullback to those that have a gradient; None is a zero.

        Raises:
            TypeError: The function cannot be run, or differentiated.
        """
        torch_functions = import_module(FUNCTIONS)

        jitter = get_jitter() if _are_jittered(arrays) else None
        observer = OperationObserver(jitter) if jitter or is_noting_sums() else None
        with self._explain_errors(arrays):
            value, pull = torch_functions.run(self.function, arrays, keywords, self.wrt, observer)

        def pull_with_errors(*gs: Array) -> list[Array | None]:
            with self._explain_errors(arrays):
                gradients: list[Array | None] = pull(*gs)
                return gradients

        return value, pull_with_errors

    @contextmanager
    def _explain_errors(self, arrays: Sequence[Array]) -> Iterator[None]:
        """Raise TypeError with an explanation for whatever the function raises at arrays."""
        try:
            yield
        except Exception as error:
            if isinstance(error, import_module(FUNCTIONS).UnsuitableFunctionError):
                raise self.make_error(str(error)) from None
            shapes = ", ".join(str(np.shape(x)) for x in arrays)
            line = next(iter(str(error).splitlines()), "")
            what = f"{type(error).__name__}: {line}".removesuffix(": ")
            where = f"on tensors of {_name_dtype(arrays)} on the CPU, of shapes {shapes}"
            raise self.make_error(f"raised {where}: {what}{self.hint}") from error

    def make_error(self, what: str) -> TypeError:
        """Return an error that says what is wrong with the function."""
        return TypeError(f"{self.subject}{what}")

    def _spread(self, gradients: Sequence[Any]) -> tuple[Any, ...]:
        """Return the gradients by all arrays, None for those without."""
        by_number = dict(zip(self.wrt, gradients, strict=True))
        return tuple([by_number.get(i) for i in range(len(self.domains))])

    @cached_property
    def _op(self) -> Callable[..., Any]:
        """The rule as an op of a sequence of arrays."""

        def rule(*args: Any, **keywords: Any) -> VJP:
            return self(*args, **keywords)

        return record(rule)

    @cached_property
    def _gradient_op(self) -> Callable[..., Any]:
        """The op, of a sequence of the arrays and then the cotangents, whose values are the gradients."""
        count = len(self.domains)
        gradient = import_module(FUNCTIONS).make_gradient(self.function, count, self.wrt)

        def rule(*args: Any, **keywords: Any) -> VJP:
            domains = [*self.domains, *[Interval()] * (len(args) - count)]
            of_gradient = TorchRule(gradient, f"{self.subject}in its gradient, ", self.hint, domains)
            return of_gradient(*args, **keywords)

        return record(rule)


class OperationObserver:
    """Moves the results of torch's operations as a source of jitter does; without one only sums are noted."""

    def __init__(self, source: JitterSource | None) -> None:
        self.source = source
        roundings = import_module(DECOMPOSITIONS).Roundings
        self.roundings = roundings(source.rng, source.spacing) if source else None

    def round_result(self, result: Array, inputs: Sequence[Array]) -> Array:
        if self.source is None:
            return result
        # What an overflow is shows an operation element by element; of others that of inputs will do.
        like = [x for x in inputs if _broadcasts_to(x.shape, result.shape)]
        return np.asarray(self.source.round_result(np.multiply, "__call__", like, None, result))

    def round_sum(self, result: Array, terms: Array, axis: tuple[int, ...]) -> Array:
        if self.source is None:
            return result
        return np.asarray(self.source.round_result(np.add, "reduce", [terms], axis, result))

    def note_sum(self, name: str) -> None:
        note_sum(name)


def _are_jittered(args: Sequence[Any]) -> bool:
    return any(isinstance(x, JitteredArray) for x in args)


def _view_as_jittered(x: Array) -> Array:
    return np.asarray(x).view(JitteredArray)


def _broadcasts_to(shape: tuple[int, ...], other: tuple[int, ...]) -> bool:
    ends = zip(reversed(shape), reversed(other), strict=False)
    return len(shape) <= len(other) and all(n in (1, m) for n, m in ends)


def _name_dtype(arrays: Sequence[Array]) -> str:
    return "float64" if any(x.dtype.kind == "f" and x.dtype.itemsize > 4 for x in arrays) else "float32"
