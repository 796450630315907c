"""Forms of ops in the place of the ops themselves, however a program calls them."""

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from types import FunctionType
from typing import Any

from gradspec.reference.derived import get_formula_class
from gradspec.reference.op import OPS, Op
from gradspec.reference.tape import Variable


@contextmanager
def use_forms(forms: Mapping[str, Op]) -> Iterator[None]:
    """Let ops be these forms of themselves within the context.

    So they are for a formula, which calls them by operators, NumPy's functions or by name, and for a rule
    that calls `np.tanh` when it runs on variables: higher derivatives are by the form throughout.

    Args:
        forms: forms of ops, such as `Op.usual_forms`, by the addresses of the ops.
    """
    before = {address: OPS[address].apply for address in forms}
    by_function = {apply: forms[address].apply for address, apply in before.items()}
    kind = get_formula_class()
    methods = {name: f for name, f in vars(kind).items() if isinstance(f, FunctionType) and f in by_function}
    _set_apply({address: form.apply for address, form in forms.items()})
    _set_methods(kind, {name: by_function[f] for name, f in methods.items()})
    try:
        yield
    finally:
        _set_apply(before)
        _set_methods(kind, methods)


def _set_apply(functions: Mapping[str, Callable[..., Any]]) -> None:
    """Let what ops do on variables be these functions, by address.

    Whoever calls an op looks it up there at that moment, so that nobody pays for forms that are not in use.
    """
    for address, function in functions.items():
        object.__setattr__(OPS[address], "apply", function)  # an op is frozen for everyone else


def _set_methods(kind: type[Variable], methods: Mapping[str, Callable[..., Any]]) -> None:
    """Let operators and methods of tensors, which are the functions of ops themselves, be these."""
    for name, function in methods.items():
        setattr(kind, name, function)


def list_usual_forms(addresses: Collection[str]) -> list[dict[str, Op]]:
    """Return usual forms of these ops, by address, that replace them together.

    There are as many such choices as the op with the most usual forms has; an op with fewer keeps its last.
    """
    forms = {a: OPS[a].usual_forms for a in sorted(addresses) if a in OPS and OPS[a].usual_forms}
    count = max(map(len, forms.values()), default=0)
    return [{a: each[min(k, len(each) - 1)] for a, each in forms.items()} for k in range(count)]
