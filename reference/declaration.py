"""The declaration of an op, and all that is asked of it: what contradicts itself is an error at import."""

import inspect
import typing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from gradspec.reference.calls import (
    Call,
    DrawCall,
    SeededChoices,
    SmallestChoices,
)
from gradspec.reference.definitions import describe_definition
from gradspec.reference.derived import derive_rule, is_vjp
from gradspec.reference.domains import Domain
from gradspec.reference.formula_checks import (
    HOW_TO_DECLARE_KINKS,
    check_formula,
    find_hidden_kinks,
    is_on_tape,
    list_values,
    run_on_arrays,
)
from gradspec.reference.inherited_formulas import inherit_usual_rules
from gradspec.reference.kink_distances import KinkDistanceFunction, smooth
from gradspec.reference.misfits import refuse_misfits
from gradspec.reference.op import OPS, Op, Settle, fill_from_domain
from gradspec.reference.record import record
from gradspec.reference.rule import Array
from gradspec.reference.signatures import broadcasts, check_signature, count_values, from_signature
from gradspec.reference.usual_formulas import check_agreement, check_same_parameters, fill_moderately

CALLS_TO_COMPARE = 8
"""On how many calls formulas are compared, unless calls are alike: each keyword has all its values then."""

COMPARED_LENGTHS = (2, 3, 1)
"""The lengths of the axes of these calls."""


def op(
    cases: str | DrawCall | None = None,
    *,
    shapes: str | None = None,
    kinks: KinkDistanceFunction | None = None,
    also: Sequence[Callable[..., Any]] = (),
    settle: Settle | None = None,
    **keywords: Sequence[Any],
) -> Callable[[Callable[..., Any]], Op]:
    """Declare the decorated rule or formula as an op under its own name.

    Outside of the spec its address is "module:name", so that it may have the name of another op. A module
    that runs again may declare the same op again.

    A rule returns a value and pullbacks, a formula an array; its smallest call tells which it is. A formula
    is written with NumPy's functions and operators, and the tape gives its pullbacks. In place of the value
    either may return a tuple of several.

    Args:
        cases: a signature (see `signatures`), or a function of a `Choices` for ops whose arguments constrain
            each other. By a signature in which nothing broadcasts, shapes that do not fit are refused.
        shapes: in place of `cases`, a signature in which nothing broadcasts, with a star or without one.
        kinks: the distances to the op's kinks, if it has any. A formula that has some must say so; `smooth`
            says that it only looks as if.
        also: usual rules or formulas of the op, beside the decorated one, which is stable. They take the same
            parameters.
        settle: from the arguments to arrays of the same shapes where the function is defined, if domains that
            constrain each argument alone cannot say so: a lower bound that must not exceed the upper one.
            Elsewhere nothing is drawn, and nothing counts as wrong.
        **keywords: with a signature, the values that each keyword of the op may have.

    Raises:
        TypeError: at import, for an argument without a domain, a keyword without a sequence of values, or a
            formula that tensors cannot run.
        ValueError: at import, for facts that contradict each other, such as two ops of one address,
            pullbacks that do not match the arguments, kinks that are not told, or a usual formula of another
            function.
    """
    if (cases is None) == (shapes is None):
        raise TypeError(
            "op: either the cases are given, a signature or a function, or shapes=, a signature in which "
            f"nothing broadcasts; got {cases!r} and shapes={shapes!r}"
        )

    def declare(rule: Callable[..., Any]) -> Op:
        name = rule.__name__
        for keyword, options in keywords.items():
            if not isinstance(options, Sequence):
                raise TypeError(
                    f"op {name!r}: option {keyword} must be a sequence of allowed values, got {options!r}"
                )
        parameters = inspect.signature(rule).parameters.values()
        arrays = [p for p in parameters if p.kind is not p.KEYWORD_ONLY]
        arguments = tuple(p.name for p in arrays)
        domains = _read_domains(rule, arguments)
        signature = cases if isinstance(cases, str) else shapes
        is_literal = signature is not None and (shapes is not None or not broadcasts(signature))
        is_variadic = any(p.kind is p.VAR_POSITIONAL for p in arrays)
        draw_call: Any = cases
        if signature is not None:
            try:
                check_signature(signature, None if is_variadic else arguments, literal=is_literal)
                draw_call = from_signature(signature, keywords, domains, literal=is_literal)
            except ValueError as error:
                raise ValueError(f"op {name!r}: {error}") from None
        refuse: Any = lambda form: form
        if signature is not None and is_literal:
            refuse = partial(refuse_misfits, signature=signature, argument_names=arguments)
        rule = refuse(rule)
        new_op = Op(
            name=name,
            rule=rule,
            apply=record(rule),
            arguments=arguments,
            domains=domains,
            keywords=tuple(p.name for p in parameters if p.kind is p.KEYWORD_ONLY),
            variadic=is_variadic,
            differentiable=True,
            draw_call=draw_call,
            signature=None if signature and is_literal and broadcasts(signature) else signature,
            options=keywords,
            kinks=None if kinks is smooth else kinks,
            settle=settle,
            module="" if f"{rule.__module__}.".startswith(f"{__package__}.") else rule.__module__,
            definition=(domains, describe_definition((rule, cases, shapes, kinks, also, settle, keywords))),
        )
        if (before := OPS.get(new_op.address)) and before.definition != new_op.definition:
            raise ValueError(
                f"op {new_op.address!r} is declared twice, and not alike; give one of them another name"
            )
        with np.errstate(all="ignore"):
            new_op = _complete_by_smallest_call(new_op)
            if new_op.formula is None and not new_op.float_values:
                new_op = new_op.with_rule(rule)
            if new_op.formula is not None and kinks is None:
                _check_hidden_kinks(new_op)
            if also:
                new_op = _add_usual_rules(new_op, also, refuse)
            if new_op.formula is not None and new_op.differentiable:
                new_op = inherit_usual_rules(new_op, _make_calls(new_op))
        OPS[new_op.address] = new_op
        return new_op

    return declare


def _read_domains(rule: Callable[..., Any], arguments: Sequence[str]) -> tuple[Domain, ...]:
    """Return the domains that annotate the arguments; TypeError for one without."""
    hints = typing.get_type_hints(rule, include_extras=True)
    for argument in arguments:
        if not isinstance(next(iter(getattr(hints.get(argument), "__metadata__", ())), None), Domain):
            raise TypeError(
                f"op {rule.__name__!r}: argument {argument!r} needs a domain as its type, such as Real"
            )
    return tuple(hints[argument].__metadata__[0] for argument in arguments)


def _complete_by_smallest_call(op: Op) -> Op:
    """Check on the op's smallest call that facts and pullbacks agree, and return the completed op.

    What the call shows of it is `differentiable` and `has_zero_gradient`, and which of several values are of
    floats.
    """
    call, kinks = op.draw_call(SmallestChoices()), op.kinks
    if not op.variadic and len(call.shapes) != len(op.arguments):
        raise ValueError(
            f"op {op.name!r}: {len(op.arguments)} arguments, but cases of {len(call.shapes)} arrays; "
            "they must be as many"
        )
    if unknown := set(call.keywords) - set(op.keywords):
        raise ValueError(
            f"op {op.name!r}: its cases have keywords {sorted(unknown)}, which its rule does not take"
        )
    inputs = [fill_from_domain(op.domain(i), s) for i, s in enumerate(call.shapes)]
    outcome = run_on_arrays(op, op.rule, call, inputs)
    if not is_vjp(outcome):
        op = _derive(op)
        outcome = op.rule(*inputs, **call.keywords)
    value, pullbacks = outcome
    values = [np.asarray(v) for v in list_values(value)]
    are_floats = tuple(v.dtype.kind == "f" for v in values)
    has_zero_gradient = pullbacks is None and any(are_floats)
    op = replace(op, differentiable=pullbacks is not None, has_zero_gradient=has_zero_gradient)
    if op.signature and len(values) != count_values(op.signature):
        raise ValueError(
            f"op {op.name!r}: signature {op.signature!r} has {count_values(op.signature)} values, its rule "
            f"or formula {len(values)}; they must be as many"
        )
    if isinstance(value, tuple):
        op = replace(op, float_values=are_floats, value_count_varies=_varies_in_count(op, are_floats))
    shapes = [x.shape for x in inputs]
    distances = shapes if kinks is None else [np.shape(d) for d in kinks(*inputs, **call.keywords)]
    if distances != shapes:
        raise ValueError(
            f"op {op.name!r}: `kinks` returns distances of shapes {distances} for arrays of shapes {shapes}; "
            "they must be the same"
        )
    if pullbacks is not None:
        _check_pullbacks(op, inputs, values, pullbacks)
    return op


def _varies_in_count(op: Op, are_floats: tuple[bool, ...]) -> bool:
    """Return whether it depends on the call how many values an op has.

    Raises:
        ValueError: if so, unless they are all of floats or none is.
    """
    counts = {len(op.compute_value(*inputs, **call.keywords)) for call, inputs in _make_calls(op)}
    if len(counts) > 1 and len(set(are_floats)) > 1:
        raise ValueError(
            f"op {op.name!r}: the number of its values depends on the call, and some are of floats, some "
            "not; all must be of one kind then"
        )
    return len(counts) > 1


def _derive(op: Op) -> Op:
    """Return the op whose formula was taken for a rule so far, with the rule that the tape gives it.

    Raises:
        TypeError: unless the formula does on tensors what it does on arrays.
    """
    formula, on_tape = op.rule, False
    for call, inputs in _make_calls(op):
        wrt = [i for i in range(len(inputs)) if op.has_gradient[0 if op.variadic else i]]
        values = check_formula(op, formula, call, inputs, wrt)
        on_tape |= any(v.dtype.kind == "f" for v in values) and is_on_tape(formula, call, inputs, wrt)
    return op.with_rule(derive_rule(formula, [on_tape and has for has in op.has_gradient], op.variadic))


def _check_hidden_kinks(op: Op) -> None:
    """Raise ValueError if the formula of an op that declares no kinks has some."""
    assert op.formula is not None
    with_kinks = [o for o in OPS.values() if o.kinks is not None]
    kinked = {o.rule: o.name for o in with_kinks if o.differentiable}
    constant = {o.rule: o.name for o in with_kinks if not o.differentiable or not all(o.float_values)}
    found = set[str]()
    for call, inputs in _make_calls(op):
        wrt = [i for i in range(len(inputs)) if op.has_gradient[0 if op.variadic else i]]
        found |= find_hidden_kinks(op.formula, call, inputs, wrt, kinked, constant)
    if found:
        raise ValueError(
            f"op {op.name!r}: its formula has kinks, where it uses {', '.join(sorted(found))}, and its "
            f"declaration does not say so; {HOW_TO_DECLARE_KINKS}"
        )


def _make_calls(op: Op) -> Iterator[tuple[Call, list[Array]]]:
    """Yield calls of an op with arrays in float64: its smallest call, and a few with moderate numbers."""
    call = op.draw_call(SmallestChoices())
    yield call, [fill_from_domain(op.domain(i), s) for i, s in enumerate(call.shapes)]
    for seed in range(CALLS_TO_COMPARE):
        call = op.draw_call(SeededChoices(seed, COMPARED_LENGTHS))
        wide = [fill_moderately(op.domain(i), s, seed + 5 * i) for i, s in enumerate(call.shapes)]
        yield call, [x.astype(np.float64) if x.dtype.kind == "f" else x for x in wide]


def _add_usual_rules(op: Op, also: Sequence[Callable[..., Any]], refuse: Callable[[Any], Any]) -> Op:
    """Return the op with its usual rules, made to refuse what its rule refuses.

    Raises:
        ValueError: unless they have the op's parameters, pullbacks, values and gradients.
    """
    rules = []
    for usual in also:
        check_same_parameters(op.name, op.rule, usual)
        form = _complete_by_smallest_call(op.with_rule(refuse(usual)))
        if form.differentiable != op.differentiable:
            has, other_has = ("no pullbacks", "some") if op.differentiable else ("pullbacks", "none")
            raise ValueError(
                f"op {op.name!r}: its usual formula {usual.__name__!r} has {has}, its rule {other_has}"
            )
        rules.append(form.rule)
    alike = op.elementwise and not op.options
    for seed in range(2 if alike else CALLS_TO_COMPARE):
        call = op.draw_call(SeededChoices(seed, COMPARED_LENGTHS))
        arrays = range(len(call.shapes))
        domains, names = [op.domain(i) for i in arrays], [op.argument_name(i) for i in arrays]
        for form in replace(op, usual_rules=tuple(rules)).value_forms:
            check_agreement(op.name, (form.rule, *form.usual_rules), call, domains, names, seed)
    return replace(op, usual_rules=tuple(rules))


def _check_pullbacks(op: Op, inputs: list[Array], values: list[Array], pullbacks: Any) -> None:
    """Raise ValueError unless exactly the differentiable arguments have a pullback."""
    differentiable = op.differentiable_arguments(len(inputs))
    expected = ["pullback" if i in differentiable else "None" for i in range(len(inputs))]
    results: Any = pullbacks(*map(np.ones_like, values)) if callable(pullbacks) else pullbacks
    actual = ["None" if p is None else "pullback" for p in results]
    if actual != expected:
        form = "" if op.rule.__name__ == op.name else f", usual formula {op.rule.__name__!r}"
        raise ValueError(
            f"op {op.name!r}{form}: needs one pullback for each of its {len(inputs)} arrays, and None for "
            f"just those without a gradient: {expected}; has {actual}"
        )
