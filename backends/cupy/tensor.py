"""Variables that hold CuPy arrays, on the spec's tape."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import wraps
from types import MappingProxyType
from typing import Any, ClassVar, Self

from gradspec.backends.cupy.arrays import copy_with_layout
from gradspec.backends.cupy.rules import Rule, cast
from gradspec.reference import OPS, Op
from gradspec.reference.dispatch import NumPyVariable, index_by_function
from gradspec.reference.grad_mode import is_grad_enabled
from gradspec.reference.record import record


class CuPyVariable(NumPyVariable):
    """A CuPy array that knows how it was computed.

    Like every `Variable` it has `backward()`, and `grad` if it is a leaf. `make_variable_class` makes a class
    that computes by given rules.

    ops: the ops by name; the operators and NumPy's functions are these ops.
    """

    __slots__ = ()
    copy_with_layout = staticmethod(copy_with_layout)
    ops: ClassVar[Mapping[str, Op]]

    @property
    def size(self) -> int:
        return self.data.size  # type: ignore[no-any-return]

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, key: Any) -> Self:
        return self.ops["getitem"](self, key=key)  # type: ignore[no-any-return]

    def reshape(self, shape: tuple[int, ...]) -> Self:
        return self.ops["reshape"](self, shape=shape)  # type: ignore[no-any-return]

    def astype(self, dtype: Any) -> Self:
        return cast(self, dtype=dtype)  # type: ignore[no-any-return]


_BINARY_OPERATORS = {
    "add": "add", "sub": "subtract", "mul": "multiply", "truediv": "divide", "pow": "pow", "matmul": "matmul",
}  # fmt: skip
_OTHER_OPERATORS = {"neg": "negative", "abs": "abs", "eq": "equal", "lt": "less", "gt": "greater"}


def make_variable_class(
    rules: Mapping[str, Rule], eager_gradient_rules: Mapping[str, Rule] = MappingProxyType({})
) -> type[CuPyVariable]:
    """Return a class of variables that compute by these rules.

    Args:
        rules: One rule for each op of the spec.
        eager_gradient_rules: Rules that take the place of some where a gradient will be asked for.
    """
    ops = {name: replace(OPS[name], rule=rule, apply=record(rule)) for name, rule in rules.items()}
    ops |= {
        name: replace(ops[name], apply=_dispatch_on_requires_grad(record(rule), ops[name].apply))
        for name, rule in eager_gradient_rules.items()
    }
    members: dict[str, Any] = {"__slots__": (), "__hash__": object.__hash__}
    members |= {"ops": ops, "offered": index_by_function(ops)}
    members |= {
        f"__{mark}__": ops[name].apply for mark, name in (_BINARY_OPERATORS | _OTHER_OPERATORS).items()
    }
    members |= {f"__r{mark}__": _swap_arguments(ops[name].apply) for mark, name in _BINARY_OPERATORS.items()}
    return type("CuPyTensor", (CuPyVariable,), members)


def _dispatch_on_requires_grad(eager: Callable[..., Any], apply: Callable[..., Any]) -> Callable[..., Any]:
    """Return an op that is `eager` where a variable among the arguments requires a gradient, else `apply`."""

    @wraps(apply)
    def op(*args: Any, **keywords: Any) -> Any:
        variables = (x for x in args if isinstance(x, CuPyVariable))
        requires_grad = is_grad_enabled() and any(x.requires_grad for x in variables)
        return (eager if requires_grad else apply)(*args, **keywords)

    return op


def _swap_arguments(apply: Callable[..., Any]) -> Callable[..., Any]:
    return lambda self, other: apply(other, self)
