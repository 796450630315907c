"""Today's names for parts of gradspec that older commits have under other names.

The benchmarks are those of the working tree and run on whatever commit asv has installed, so they import such
parts from here. Each is imported by its name of today; if that fails, by its name up to commit 9f4cb87.
"""

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from asv_runner.benchmarks.mark import SkipNotImplemented

from gradspec.reference import Op

if TYPE_CHECKING:
    from gradspec.reference.calls import Call, IntegerArrayBelow, SeededChoices
else:
    try:
        from gradspec.reference.calls import Call, IntegerArrayBelow, SeededChoices
    except ImportError:
        from gradspec.reference.cases import Below as IntegerArrayBelow
        from gradspec.reference.cases import Call
        from gradspec.reference.cases import Seeded as SeededChoices

try:
    from gradspec.properties.cases.sizes import AXIS_LENGTHS, MAX_ELEMENTS
except ImportError:
    AXIS_LENGTHS, MAX_ELEMENTS = (1, 2, 3, 0, 4, 5, 7, 8, 17, 33), 300

__all__ = [
    "AXIS_LENGTHS", "MAX_ELEMENTS", "Call", "IntegerArrayBelow", "SeededChoices", "draw_call", "load_judging",
    "pick_first_value",
]  # fmt: skip


def pick_first_value(op: Op) -> Op:
    """Return the op, or if it has several values, as no older op has, the op with the first of them."""
    first: Op = getattr(op, "value_forms", (op,))[0]
    return first


def draw_call(op: Op, choices: Any) -> Call:
    """Return a call of the op that `choices` choose."""
    draw = getattr(op, "draw_call", None) or getattr(op, "cases")  # noqa: B009 - the name of older commits
    call: Call = draw(choices)
    return call


def load_judging() -> Any:
    """Return what judges a result, as a namespace.

    It has `Case`, `dtype_of`, `forward`, `run_on_backend`, `Judge`, `combine_judgements`, `ulp` and `FACTOR`.

    Raises:
        SkipNotImplemented: at commits that have none of it.
    """
    try:
        from gradspec.properties.cases.case import Case, dtype_of
        from gradspec.properties.cases.evaluate import forward, run_on_backend
        from gradspec.properties.judging.judge import ALLOWED_FACTOR, Judge, combine_judgements, ulp
    except ImportError:
        return _load_judging_under_old_names()
    return SimpleNamespace(
        Case=Case, dtype_of=dtype_of, forward=forward, run_on_backend=run_on_backend,
        Judge=Judge, combine_judgements=combine_judgements, ulp=ulp, FACTOR=ALLOWED_FACTOR,
    )  # fmt: skip


def _load_judging_under_old_names() -> Any:
    """Return the same from commits up to 9f4cb87."""
    from importlib import import_module

    try:
        case, judge = (import_module(f"gradspec.properties.{name}") for name in ("case", "judging.judge"))
        methods = {
            "judge_value": judge.Judge.value,
            "judge_gradients": judge.Judge.gradients,
            "measure_noise": judge.Judge.noise,
        }
        return SimpleNamespace(
            Case=case.Case, dtype_of=case.dtype_of, forward=case.forward, run_on_backend=case.outcome,
            Judge=type("Judge", (judge.Judge,), methods), combine_judgements=judge.combined,
            ulp=judge.ulp, FACTOR=judge.FACTOR,
        )  # fmt: skip
    except (ImportError, AttributeError) as error:
        raise SkipNotImplemented("this commit has no judge in a place that any_commit.py knows") from error
