"""Are gradients right through whole programs: through fan-out, diamonds and inputs that are used twice?

Does not see: ops that are not in `MENU`, kinks, programs of more than eight steps or of several results,
writes in place, or what only the first call of a pullback gets wrong (the second is judged).
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from gradspec.backends import Backend
from gradspec.properties.cases.evaluate import Result
from gradspec.properties.cases.programs import MENU, Program
from gradspec.properties.judging.judge import SPEC_BACKEND, ComputationJudge, Judgement, combine_judgements
from gradspec.reference.rule import Array


def every_gradient_of_a_program_agrees(backend: Backend, program: Program) -> Judgement:
    """Judge whether the value of the program and its gradient with respect to every input are the spec's."""
    exact = ComputationJudge(
        program.dtype, lambda convert: differentiate_program(SPEC_BACKEND, program, convert)
    )
    got = differentiate_program(backend, program, pull_twice=True)
    gradients = [
        exact.judge(f"gradient of {name}", d, lambda r, name=name: r.gradients[name])  # type: ignore[misc]
        for name, d in got.gradients.items()
    ]
    value = exact.judge("value", got.value, lambda r: r.value)
    whole = combine_judgements([value, *gradients])
    return Judgement(whole.verdict, whole.reason, combine_judgements(gradients).informative, whole.worst)


def differentiate_program(
    backend: Backend,
    program: Program,
    convert: Callable[[Array], Array] = np.copy,
    *,
    pull_twice: bool = False,
) -> Result:
    """Return the value and gradients of the program on a backend.

    Args:
        backend: Its ops and its vjp run the program.
        program: The program, which draws its own inputs and cotangent.
        convert: Applied to each array of floats that the program starts from.
        pull_twice: Return the gradients of a second call of the pullback, with the same cotangent: the first
            call may have used something up.
    """
    arrays = [backend.from_numpy(convert(x)) for x in program.draw_inputs()]
    wrt = [i for i in range(len(arrays)) if i not in program.constants]

    def run(*inputs: Any) -> Any:
        values, shapes = list(arrays), list(program.shapes)
        for i, x in zip(wrt, inputs, strict=True):
            values[i] = x
        for name, operands in program.steps:
            entry, (shape, *others) = MENU[name], [shapes[i] for i in operands]
            values.append(backend.ops[entry.op](*(values[i] for i in operands), **entry.keywords(shape)))
            shapes.append(np.broadcast_shapes(entry.result_shape(shape), *others))
        return values[-1]

    result, pullback = backend.vjp(run, *(arrays[i] for i in wrt))
    value = backend.to_numpy(result)
    g = backend.from_numpy(convert(program.draw_cotangent(value.shape)))
    if pull_twice:
        pullback(g)
    gradients = pullback(g)
    names = [f"input {i}" for i in wrt]
    return Result(value, dict(zip(names, map(backend.to_numpy, gradients), strict=True)))
