"""The ops of the spec, as `gradspec ops` lists them: how each is called."""

import inspect
from collections.abc import Iterator

from gradspec.reference import OPS, Op


def format_ops() -> str:
    """Return the ops of the spec, a line each, by name: its arrays, and after a star its keywords."""
    return "\n".join(sorted(_format_op(op) for op in OPS.values() if not op.module))


def _format_op(op: Op) -> str:
    return f"{op.name}({', '.join(_iterate_parameters(op))})"


def _iterate_parameters(op: Op) -> Iterator[str]:
    """Yield the parameters as people write them; several arrays in one sequence have one name."""
    has_star = False
    for p in inspect.signature(op.rule).parameters.values():
        if p.kind is p.KEYWORD_ONLY and not has_star:
            has_star = True
            yield "*"
        yield p.name if p.default is p.empty else f"{p.name}={p.default!r}"
