"""The laws that are asked of one function, and its verdict."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from weakref import WeakSet

from gradspec.properties.judging.spec_backend import get_spec_backend
from gradspec.properties.running.failure import BackendLabel
from gradspec.properties.running.op_selection import SPEC
from gradspec.properties.running.tally import to_sentence
from gradspec.properties.running.trials import explain_trial
from gradspec.properties.verifying.asked_properties import Property, find_property
from gradspec.properties.verifying.plain_functions import (
    LEFT_OUT_OF_FUNCTIONS,
    LEFT_OUT_WITHOUT_KINKS,
    NOT_ASKED_BY_FUNCTIONS,
)
from gradspec.properties.verifying.regular_laws import REGULAR_LAWS, RegularLaw
from gradspec.properties.verifying.report import Report, describe_failure
from gradspec.properties.verifying.request import Request, Subject, prepare
from gradspec.properties.verifying.shared_cases import OpUnderOneTest, find_violation
from gradspec.reference import Op

N_EXAMPLES = 5
N_EXAMPLES_ON_TRIAL = 3

PROPERTIES = (
    find_property("test_value", "test_value_agrees"),
    find_property("test_gradient", "test_every_gradient_agrees"),
    find_property("test_layouts", "test_layout_makes_no_difference", 4),
    find_property("test_shape_and_dtype", "test_shapes_and_dtypes_are_kept", 2),
    find_property("test_constants", "test_other_arguments_may_be_constants", 2),
    find_property("test_purity", "test_calls_leave_no_trace", 2),
    find_property("test_second_order", "test_second_derivatives_agree", 2),
    find_property("test_several_values", "test_all_cotangents_count_together", 2),
    find_property("test_kinks", "test_gradient_at_kinks_is_a_legal_subgradient"),
    find_property("test_batches", "test_a_batch_equals_its_members", 2),
    find_property("test_symmetries", "test_symmetries_are_kept", 2),
    find_property("test_linearity", "test_pullback_is_linear_in_the_cotangent", 1),
    find_property("test_shared_inputs", "test_one_array_may_be_given_twice", 2),
    find_property("test_extremes", "test_extremes_go_where_the_spec_says"),
)
"""Those whose cases are drawn, the most telling first."""

TRIAL = (find_property("test_spec", "test_spec_agrees_with_numerical_differentiation", 2),)
"""What an op of one's own must pass before anything is judged by it."""

LEFT_OUT = (
    "what the spec refuses raises: to accept more is no failure",
    "spec is as stable as its function: `gradspec verify` on the command line asks it, of an op of your own",
)


@dataclass(frozen=True)
class Laws:
    """What is asked of a function: properties whose cases are drawn, and laws of regular cases."""

    drawn: Sequence[Property] = ()
    regular: Sequence[RegularLaw] = ()

    def list_names(self) -> list[str]:
        """Return the names of the properties, the most telling first."""
        return [*(p.test.__name__ for p in self.drawn), *(r.property for r in self.regular)]

    def select(self, name: str) -> "Laws":
        """Return the one law of a property."""
        drawn = [p for p in self.drawn if p.test.__name__ == name]
        return Laws(drawn, [r for r in self.regular if r.property == name])

    def leave_out(self, names: Collection[str]) -> "Laws":
        """Return all but those of some properties."""
        drawn = [p for p in self.drawn if p.test.__name__ not in names]
        return Laws(drawn, [r for r in self.regular if r.property not in names])

    def restrict(self, target: OpUnderOneTest) -> "Laws":
        """Return those that apply to a target."""
        regular = [
            r for r in self.regular if any(r.applies_to(form, target.backend) for form in target.forms)
        ]
        return Laws([p for p in self.drawn if p.restrict(target)], regular)


_passed_ops: WeakSet[Op] = WeakSet()
"""The ops of one's own that have passed their trial in this process."""

ALL_LAWS = Laws(PROPERTIES, REGULAR_LAWS)


def judge(request: Request, laws: Laws, n_examples: int) -> Report:
    """Ask laws of a function, and return what was judged.

    Raises:
        AssertionError: It breaks one, or nothing could be told of it.
    """
    __tracebackhide__ = True
    with prepare(request) as subject:
        laws = laws.leave_out(NOT_ASKED_BY_FUNCTIONS if subject.by_function else ()).restrict(subject.target)
        text, report = _judge_subject(subject, request, laws, n_examples)
    if text:
        raise AssertionError(text)
    return report


def _judge_subject(subject: Subject, request: Request, laws: Laws, n_examples: int) -> tuple[str, Report]:
    """Return what is wrong in words, "" if nothing is, and the report."""
    target = subject.target
    text = "" if subject.by_function else _try_op(target, request)
    if not text:
        violation = find_violation(target, laws.drawn, laws.regular, n_examples, request.seed)
        if violation:
            text = describe_failure(violation, Path(request.failures), subject.no_script)
        elif target.tally.is_not_offered:
            text = f"{target.backend.name} declines every call: {', '.join(target.tally.decline_reasons)}"
        else:
            try:
                target.measure_margin()
                target.require_informative_cases()
            except AssertionError as error:
                text = f"{target.backend.name}: {error}"
    nests = () if target.backend.nests else ("second derivatives agree: nests=False",)
    return text, Report.of(
        op=target.name,
        backend=subject.backend,
        dtypes=tuple(target.dtypes),
        laws=tuple(map(to_sentence, laws.list_names())),
        tally=target.tally,
        left_out=(*nests, *_list_left_out(subject)),
    )


def _list_left_out(subject: Subject) -> tuple[str, ...]:
    """Return what is never asked of such a subject, with the reasons."""
    if not subject.by_function:
        return LEFT_OUT
    kinks = () if subject.target.op.kinks else (LEFT_OUT_WITHOUT_KINKS,)
    return (*kinks, *LEFT_OUT_OF_FUNCTIONS, LEFT_OUT[0])


def _try_op(target: OpUnderOneTest, request: Request) -> str:
    """Return what is wrong with the declaration of an op of one's own, in words; "" if nothing is."""
    if not target.op.module or target.op in _passed_ops:
        return ""
    on_trial = OpUnderOneTest(
        name=target.name,
        op=target.op,
        backend=replace(get_spec_backend(), name=SPEC),
        source="numpy",
        dtypes=["float64"],
        label=BackendLabel(SPEC, "cpu", "numpy", "", target.label.setup),
    )
    violation = find_violation(on_trial, TRIAL, (), N_EXAMPLES_ON_TRIAL, request.seed)
    if violation is None:
        _passed_ops.add(target.op)
        return ""
    no_script = "" if target.label.expression else "the op has no address"
    return describe_failure(explain_trial(violation, on_trial), Path(request.failures), no_script)
