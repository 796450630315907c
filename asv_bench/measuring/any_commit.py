"""Today's names for parts of gradspec that older commits have under other names.

The benchmarks are those of the working tree and run on whatever commit asv has installed, so they import such
parts from here. Commits up to 9f4cb87 are given today's names, where `gradspec.timing` finds them, which is
the working tree's, too.
"""

import importlib.util
import sys
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

from asv_runner.benchmarks.mark import SkipNotImplemented

from gradspec.reference import Op


def _add_names(module: str, source: Any, **more: Any) -> None:
    """Make a module that has the names of another one and some more."""
    sys.modules[module] = ModuleType(module)
    vars(sys.modules[module]).update({**vars(source), **more, "__name__": module})


if not TYPE_CHECKING:
    if importlib.util.find_spec("gradspec.reference.calls") is None:
        from gradspec.reference import cases

        _add_names(
            "gradspec.reference.calls", cases, IntegerArrayBelow=cases.Below, SeededChoices=cases.Seeded
        )
        Op.draw_call = property(lambda op: op.cases)
    if not hasattr(Op, "address"):  # which commits up to f8e6bd9 lack
        Op.address = property(lambda op: op.name)

from gradspec.reference.calls import Call, IntegerArrayBelow, SeededChoices  # noqa: E402

try:
    from gradspec.properties.cases.sizes import AXIS_LENGTHS, MAX_ELEMENTS
except ImportError:
    AXIS_LENGTHS, MAX_ELEMENTS = (1, 2, 3, 0, 4, 5, 7, 8, 17, 33), 300

__all__ = [
    "AXIS_LENGTHS", "MAX_ELEMENTS", "Call", "IntegerArrayBelow", "SeededChoices", "load_judging",
    "pick_first_value",
]  # fmt: skip


def pick_first_value(op: Op) -> Op:
    """Return the op, or if it has several values, as no older op has, the op with the first of them."""
    first: Op = getattr(op, "value_forms", (op,))[0]
    return first


def load_judging() -> Any:
    """Return what judges a result, as a namespace.

    It has `Case`, `dtype_of`, `forward`, `run_on_backend`, `Judge`, `combine_judgements`, `ulp` and `FACTOR`.

    Raises:
        SkipNotImplemented: at commits that have none of it.
    """
    try:
        return _load_judging_under_todays_names()
    except ImportError:
        _give_judging_todays_names()
    return _load_judging_under_todays_names()


def _load_judging_under_todays_names() -> Any:
    from gradspec.properties.cases.case import Case, dtype_of
    from gradspec.properties.cases.evaluate import forward, run_on_backend
    from gradspec.properties.judging.judge import ALLOWED_FACTOR, Judge, combine_judgements, ulp

    return SimpleNamespace(
        Case=Case, dtype_of=dtype_of, forward=forward, run_on_backend=run_on_backend,
        Judge=Judge, combine_judgements=combine_judgements, ulp=ulp, FACTOR=ALLOWED_FACTOR,
    )  # fmt: skip


def _give_judging_todays_names() -> None:
    """Give commits up to 9f4cb87 the names that today's benchmarks look for."""
    names = ("gradspec.properties.case", "gradspec.properties.judging.judge")
    try:
        case, judge = map(importlib.import_module, names)
        judge.Judge.judge_value, judge.Judge.judge_gradients = judge.Judge.value, judge.Judge.gradients
        judge.Judge.measure_noise = judge.Judge.noise
        vars(judge).update(combine_judgements=judge.combined, ALLOWED_FACTOR=judge.FACTOR)
        _add_names("gradspec.properties.cases.case", case)
        _add_names(
            "gradspec.properties.cases.evaluate", case, run_on_backend=case.outcome, run_spec=case.spec_of
        )
    except (ImportError, AttributeError) as error:
        raise SkipNotImplemented("this commit has no judge in a place that any_commit.py knows") from error
