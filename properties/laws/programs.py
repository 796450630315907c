"""Are gradients right through whole programs: through fan-out, diamonds and inputs that are used twice?

Programs of any ops of the backend start from inputs of rank 0 to 4. Some are made of ops alone that move
elements, such as a reshape of a transpose. In others a step is itself a gradient, of an inner function that
closes over outer variables, or the value that comes with it. In some a mask hides a branch that is undefined
at some elements, as in where(x > 0, sqrt(x), 0). There the chain rule multiplies 0 by an infinity or NaN:
torch, JAX, HIPS autograd and the spec's own tape give NaN for the gradient of such an element. The right one
is 0, which a library gives that stops where a cotangent is 0. So a gradient is NaN or right at the elements
that an op met outside its domain, and at what depends on them; at all others it is right. Where the argument
is masked as well (the "double where"), it is right everywhere.

Does not see: programs of more than eight steps or of several results, kinks, numbers far from 1, writes in
place, what only the third call of a pullback gets wrong, or third derivatives.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from gradspec.backends import Backend, call
from gradspec.properties.cases.evaluate import Result
from gradspec.properties.cases.literals import format_assignments
from gradspec.properties.cases.programs import (
    INNER_GRADIENT,
    INNER_STEPS,
    PICK,
    Program,
    Step,
    describe_steps,
    is_inside,
)
from gradspec.properties.judging.judge import (
    Judgement,
    combine_judgements,
    get_spec_backend,
    make_spec_judge,
)
from gradspec.properties.judging.judgement import Severity
from gradspec.reference import OPS, Op, Variable
from gradspec.reference.domains import Interval
from gradspec.reference.op import fill_from_domain
from gradspec.reference.rule import Array

SEVERITY: Severity = "wrong"

ConvertFloats = Callable[[Array], Array]


def every_gradient_of_a_program_agrees(backend: Backend, program: Program) -> Judgement:
    """Judge whether the value of the program and its gradient with respect to every input are the spec's.

    The gradients of the first call of the pullback and of the second are judged.
    """
    exact = make_spec_judge(
        program.dtype,
        lambda spec, convert: differentiate_defined_program(spec, program, convert),
        list_op_names(program.steps),
    )
    first, second = differentiate_program_repeatedly(backend, program, 2)
    may_be_nan = find_undefined_gradients(program) if program.has_undefined_branch else {}
    gradients = []
    for ordinal, got in ("first", first.gradients), ("second", second.gradients):
        for name, d in got.items():
            if ordinal == "first" and _are_identical(d, second.gradients[name]):
                continue
            what = f"gradient of {name}" + (" at the first call" if ordinal == "first" else "")
            part = lambda r, name=name: r.gradients[name]
            if name in may_be_nan and d.shape == may_be_nan[name].shape:
                d = np.where(may_be_nan[name] & np.isnan(d), exact.exact.gradients[name].astype(d.dtype), d)
            gradients.append(exact.judge(what, d, part))
    value = exact.judge("value", second.value, lambda r: r.value)
    whole = combine_judgements([value, *gradients])
    return replace(whole, informative=combine_judgements(gradients).informative)


def describe_calls(program: Program, name_op: Callable[[str], str]) -> list[str]:
    """Return the arrays of a program as NumPy literals, and below them its steps as calls.

    Args:
        program: The program.
        name_op: From the name of an op to that of the library's function.
    """
    shape = differentiate_defined_program(get_spec_backend(), program, np.copy).value.shape
    arrays = {f"x{i}": x for i, x in enumerate(program.drawn_inputs)}
    arrays |= {f"g{k}": program.draw_cotangent(s, inner=True) for k, s in program.list_inner_shapes()}
    by = ", ".join(f"x{i}" for i in program.differentiable_inputs) or "nothing"
    return [
        *format_assignments(arrays | {"cotangent": program.draw_cotangent(shape)}),
        *(f"# {line}" for line in describe_steps(program.steps, name_op=name_op, names_cotangents=True)),
        f"# the gradients of v{len(program.steps) - 1} by {by}, for this cotangent",
    ]


def differentiate_defined_program(spec: Backend, program: Program, convert: ConvertFloats) -> Result:
    """Return what `differentiate_program` does on the spec, with no op outside its domain."""
    backend = substitute_outside_domains(spec) if program.has_undefined_branch else spec
    return differentiate_program(backend, program, convert)


def list_op_names(steps: Sequence[Step]) -> set[str]:
    """Return the names of the ops of steps, and of those of inner functions."""
    inner = [list_op_names(keywords["steps"]) for op, _, keywords in steps if op in INNER_STEPS]
    return {op for op, _, _ in steps if op not in (*INNER_STEPS, PICK)}.union(*inner)


def differentiate_program(backend: Backend, program: Program, convert: ConvertFloats = np.copy) -> Result:
    """Return the value and gradients of the program on a backend.

    Args:
        backend: Its ops and its vjp run the program.
        program: The program, which draws its own inputs and cotangents.
        convert: Applied to each array of floats that the program starts from.
    """
    return differentiate_program_repeatedly(backend, program, 1, convert)[0]


def differentiate_program_repeatedly(
    backend: Backend, program: Program, count: int, convert: ConvertFloats = np.copy
) -> list[Result]:
    """Return what `differentiate_program` does, for so many calls of one pullback with the same cotangent.

    The first call may use something up.
    """
    converted = [x.copy() if x.dtype.kind in "biu" else convert(x) for x in program.drawn_inputs]
    arrays = list(map(backend.from_numpy, converted))
    wrt = program.differentiable_inputs

    def make_inner_cotangent(shape: tuple[int, ...]) -> Any:
        return backend.from_numpy(convert(program.draw_cotangent(shape, inner=True)))

    def run(*variables: Any) -> Any:
        inputs = list(arrays)
        for i, x in zip(wrt, variables, strict=True):
            inputs[i] = x
        return run_steps(backend, program.steps, inputs, [], make_inner_cotangent)

    value, pullback = backend.vjp(run, *(arrays[i] for i in wrt))
    value = backend.to_numpy(value)
    g = backend.from_numpy(convert(program.draw_cotangent(value.shape)))
    names = [f"x{i}" for i in wrt]
    results = []
    for _ in range(count):
        gradients = map(backend.to_numpy, pullback(g))
        results.append(Result(value, dict(zip(names, gradients, strict=True))))
    return results


def run_steps(
    backend: Backend,
    steps: Sequence[Step],
    inputs: Sequence[Any],
    earlier: Sequence[Any],
    make_inner_cotangent: Callable[[tuple[int, ...]], Any],
) -> Any:
    """Return the result of the last of these steps; the last input if there are none.

    Args:
        backend: Its ops and its vjp run the steps.
        steps: The steps.
        inputs: The inputs of the program.
        earlier: The results of the steps before these.
        make_inner_cotangent: From the shape of the value of an inner function to its cotangent.
    """
    results = list(earlier)
    for op, operands, keywords in steps:
        values = [results[n] if n >= 0 else inputs[~n] for n in operands]
        if op == PICK:
            results.append(values[0][keywords["number"]])
            continue
        if op not in INNER_STEPS:
            results.append(call(OPS[op], backend.ops[op], values, keywords))
            continue

        def inner(y: Any, keywords: Any = keywords) -> Any:
            return run_steps(backend, keywords["steps"], inputs, [*results, y], make_inner_cotangent)

        value, pullback = backend.vjp(inner, values[0])
        is_gradient = op == INNER_GRADIENT
        results.append(pullback(make_inner_cotangent(keywords["shape"]))[0] if is_gradient else value)
    return results[-1] if results else inputs[-1]


def find_undefined_gradients(program: Program) -> dict[str, Array]:
    """Return for each gradient at which elements a number outside the domain of an op had a part in it."""
    marking = substitute_outside_domains(get_spec_backend(), mark=True)
    with np.errstate(all="ignore"):
        marked = differentiate_program(marking, program, lambda x: x.astype(np.float64))
    return {name: np.isnan(d) for name, d in marked.gradients.items()}


def substitute_outside_domains(spec: Backend, *, mark: bool = False) -> Backend:
    """Return the spec, or one made of other formulas, with ops that never meet a number outside their domain.

    Args:
        spec: A backend of the spec's tape.
        mark: Put NaN in the place of such a number, which then spreads to every gradient that the number has
            a part in. Otherwise it is a number of the domain, to which no cotangent flows.
    """

    def substitute(x: Any, domain: Any) -> Any:
        if not isinstance(domain, Interval) or domain == Interval():
            return x
        data = x.data if isinstance(x, Variable) else np.asarray(x)
        outside = ~is_inside(domain, np.asarray(data))
        if not np.any(outside):
            return x
        if mark:
            return spec.ops["multiply"](x, np.where(outside, np.nan, 1).astype(data.dtype))
        inside = fill_from_domain(domain, ()).astype(data.dtype)
        return spec.ops["where"](outside, inside, x)

    def wrap(op: Op) -> Callable[..., Any]:
        fn = spec.ops[op.address]
        if mark and op.has_zero_gradient:
            # A library may carry the gradient on, times 0, where the spec carries none.
            return lambda x, **keywords: spec.ops["add"](fn(x, **keywords), spec.ops["multiply"](x, 0 * x))
        if op.variadic or all(d == Interval() for d in op.domains):
            return fn
        return lambda *xs, **keywords: fn(*map(substitute, xs, op.domains), **keywords)

    return replace(spec, ops={name: wrap(OPS[name]) for name in spec.ops})


def _are_identical(x: Array, y: Array) -> bool:
    return x.shape == y.shape and x.dtype == y.dtype and bool(np.all((x == y) | ((x != x) & (y != y))))
