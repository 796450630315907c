"""What a function is judged by: an op, its name, or a formula or plain function, an op as long as needed."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from gradspec.backends.addresses import find_op
from gradspec.properties.verifying.kernels import name_function
from gradspec.properties.verifying.parameters import find_domain, list_keyword_values, read_hints
from gradspec.properties.verifying.plain_functions import declare_function, is_plain_function
from gradspec.reference import OPS, Op, op
from gradspec.reference.kink_distances import KinkDistanceFunction

WHAT_IS_ALLOWED = (
    'the name of an op ("layer_norm"), an op (`@gradspec.op`), a formula in NumPy, each of whose arrays is '
    "annotated with its domain (x: gradspec.Real), or, once torch is imported, a function of torch"
)


@contextmanager
def declare(
    against: Any,
    shapes: str | None,
    keywords: Mapping[str, Sequence[Any]] | None,
    kinks: KinkDistanceFunction | None,
) -> Iterator[Op]:
    """Give the op that `against` stands for; of a function it is declared within the block alone.

    Args:
        against: The name of an op, an op, a formula, or a plain function of torch.
        shapes: The signature of the formula.
        keywords: The values to try of the formula's keywords, where its parameters do not tell.
        kinks: Where the formula has kinks.

    Raises:
        TypeError: `against` is none of these, or what else is given does not go with it.
        ValueError: There is no such op, or the formula contradicts its declaration.
    """
    if isinstance(against, str | Op):
        for name, value in {"shapes": shapes, "keywords": keywords, "kinks": kinks}.items():
            if value is not None:
                raise TypeError(f"verify: {name}= is for a formula; {against!r} is an op, which has its own")
        yield find_op(against) if isinstance(against, str) else against
        return
    is_plain = is_plain_function(against)
    if not is_plain:
        _require_formula(against)
    name = name_function(against)
    if shapes is None:
        raise TypeError(
            f"verify: the {'function' if is_plain else 'formula'} {name} needs the shapes of its arrays and "
            'its value, such as shapes="(*b,n),(n)->(*b,n)", where *b stands for any axes and nothing else '
            "broadcasts"
        )
    address = f"{against.__module__}:{name}"
    before = OPS.pop(address, None)
    try:
        yield (declare_function if is_plain else _declare_told_formula)(against, shapes, keywords, kinks)
    finally:
        OPS.pop(address, None)
        if before is not None:
            OPS[address] = before


def _declare_told_formula(formula: Any, *arguments: Any) -> Op:
    """Declare a formula; if it is a function of torch after all, TypeError says how such a one is told."""
    try:
        return declare_formula(formula, *arguments)
    except (AttributeError, TypeError) as error:
        if "numpy.ndarray" not in str(error):
            raise
        raise TypeError(
            f"verify: against={formula.__name__}, a formula in NumPy as its arrays have domains, raised "
            f"{type(error).__name__}: {error}; a function of torch says so by its annotations, "
            "-> torch.Tensor"
        ) from error


def declare_formula(
    formula: Any,
    shapes: str,
    keywords: Mapping[str, Sequence[Any]] | None = None,
    kinks: KinkDistanceFunction | None = None,
) -> Op:
    """Declare a formula as an op of these shapes, in which nothing broadcasts but what a star stands for.

    The arguments are those of `verify`.
    """
    values = {**list_keyword_values(formula), **(keywords or {})}
    return op(None, shapes=shapes, kinks=kinks, also=(), settle=None, **values)(formula)


def _require_formula(against: Any) -> None:
    """Raise TypeError unless this is a function whose arrays have domains."""
    name = getattr(against, "__name__", None) or repr(against)
    if not callable(against):
        raise TypeError(
            f"verify: against={name} is of type {type(against).__name__}; allowed are {WHAT_IS_ALLOWED}"
        )
    hints = read_hints(against)
    try:
        parameters = inspect.signature(against).parameters.values()
    except (TypeError, ValueError):
        parameters = {}.values()
    arrays = [p.name for p in parameters if p.kind is not p.KEYWORD_ONLY]
    without = [a for a in arrays if find_domain(hints.get(a)) is None]
    if not arrays or without or not hasattr(against, "__name__"):
        what = f"has no domain for {' and '.join(without)}" if hints and without else "is a plain function"
        raise TypeError(f"verify: against={name} {what}; allowed are {WHAT_IS_ALLOWED}")
