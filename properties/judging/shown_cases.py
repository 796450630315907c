"""What is shown of a case: not always the one that is judged, and how one that is no single call is written.

The module of a law may have two functions for that, found here by their names:

- `find_shown_case(case)`: the case that a violation shows, where the law makes it of the one it judges;
- `describe_calls(case, name_op)`: the arrays of a case as NumPy literals, and the calls below them as
  comments, where it is not one call of one op. `name_op` gives the library's name of the function of an op.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from gradspec.backends import Backend
from gradspec.properties.cases.case import Case
from gradspec.properties.cases.layout_literals import format_laid_out
from gradspec.properties.cases.literals import format_briefly
from gradspec.properties.judging.attempt import Law
from gradspec.properties.judging.function_names import find_function_name
from gradspec.properties.judging.judgement import Judgement


def find_shown_case(law: Law, case: Any, judgement: Judgement | None = None) -> Any:
    """Return the case that a violation shows: that of the judgement, or what the law makes of the case."""
    if judgement is not None and judgement.case is not None:
        return judgement.case
    find: Callable[[Any], Any] | None = _find_function(law, "find_shown_case")
    try:
        return find(case) if find else case
    except Exception:  # of an op outside of gradspec
        return case


def describe_calls(law: Law, backend: Backend | str, case: Any) -> list[str]:
    """Return the arrays of a case as NumPy literals, and below them the calls, as comments.

    Nothing where the case has no arrays. Of a backend that is not loaded here the names of its functions are
    not known.

    Args:
        law: The law that is broken.
        backend: The backend, or the name to load it by.
        case: The case that is shown.
    """
    if isinstance(case, Case):
        return _describe_call(backend, case)
    describe: Callable[..., list[str]] | None = _find_function(law, "describe_calls")
    if describe is None:
        return []
    unnamed: list[str] = []

    def name_op(op: str) -> str:
        name = _name_function(backend, op)
        if not name and op not in unnamed:
            unnamed.append(op)
        return name or op

    lines = describe(case, name_op)
    if unnamed:
        lines.append(f"# {', '.join(unnamed)}: of {_name_backend(backend)}")
    return lines


def describe_difference(law: Law, backend: Backend | str, case: Any, before: Any) -> list[str]:
    """Return the lines of a case that are not those of the one that was shown before it, and its calls."""
    seen = describe_calls(law, backend, before)
    return [line for line in describe_calls(law, backend, case) if line not in seen or line.startswith("# ")]


def _describe_call(backend: Backend | str, case: Case) -> list[str]:
    names = [case.op.argument_name(i).replace("[", "_").rstrip("]") for i in range(len(case.inputs))]
    layouts = case.layouts or ("C",) * (len(names) + 1)
    lines = ["import numpy as np"] + ["import ml_dtypes"] * (case.dtype == "bfloat16")
    in_script = [*(f"case.inputs[{i}]" for i in range(len(names))), "case.cotangent"]
    for name, x, layout, place in zip(
        [*names, "cotangent"], (*case.inputs, case.cotangent), layouts, in_script, strict=True
    ):
        expression = format_laid_out(x, layout)
        comments = [] if layout == "C" else [layout]
        if expression is None:
            expression = place
            comments.append(f"{x.size} numbers, which the script has in full")
        lines.append(f"{name} = {expression}" + (f"  # {', '.join(comments)}" if comments else ""))
        if layout == "read-only":
            lines.append(f"{name}.setflags(write=False)")
    function = _name_function(backend, case.op.address)
    arrays = f"({', '.join(names)}{',' * (len(names) == 1)})" if case.op.variadic else ", ".join(names)
    keywords = [f"{k}={format_briefly(v)}" for k, v in case.keywords.items()]
    call = f"{function or case.op.name}({', '.join([arrays, *keywords])})"
    call += "" if case.op.picked is None else f"[{case.op.picked}]"
    where = "" if function else f", the {case.op.name} of {_name_backend(backend)}"
    return [*lines, f"# {call}{where}"]


def _name_function(backend: Backend | str, op: str) -> str:
    """Return the library's name of the function of an op with this address; "" if it is not known."""
    if isinstance(backend, str):
        return ""
    if op not in backend.ops:  # it is the declaration of an op that is tried, not a backend
        return op.replace(":", ".")
    array_class = type(backend.from_numpy(np.zeros(())))
    return find_function_name(backend.ops[op], array_class, op.rpartition(":")[2])


def _name_backend(backend: Backend | str) -> str:
    return backend.name if isinstance(backend, Backend) else str(backend)


def _find_function(law: Law, name: str) -> Any:
    return getattr(law, "__globals__", {}).get(name)
