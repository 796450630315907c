"""Are gradients right through whole programs: through fan-out, diamonds and inputs that are used twice?"""

from collections.abc import Callable
from typing import Any

import numpy as np

from gradspec.backends import Backend
from gradspec.properties.cases.evaluate import Result
from gradspec.properties.cases.programs import MENU, Program
from gradspec.properties.judging.judge import SPEC_BACKEND, ComputationJudge, Judgement, combine_judgements
from gradspec.reference.rule import Array


def every_gradient_of_a_program_agrees(backend: Backend, program: Program) -> Judgement:
    """The value of the program and its gradient by every input are the spec's."""
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
    """Value and gradients of the program on a backend.

    again: the gradients are those of a second call of the pullback, with the same cotangent: the first may have used it up.
    """
    given = [backend.from_numpy(convert(x)) for x in program.draw_inputs()]
    free = [i for i in range(len(given)) if i not in program.constants]

    def run(*inputs: Any) -> Any:
        found, shapes = list(given), list(program.shapes)
        for i, x in zip(free, inputs, strict=True):
            found[i] = x
        for name, taken in program.steps:
            entry, (shape, *others) = MENU[name], [shapes[i] for i in taken]
            found.append(backend.ops[entry.op](*(found[i] for i in taken), **entry.keywords(shape)))
            shapes.append(np.broadcast_shapes(entry.result_shape(shape), *others))
        return found[-1]

    value, pullback = backend.vjp(run, *(given[i] for i in free))
    end = backend.to_numpy(value)
    g = backend.from_numpy(convert(program.draw_cotangent(end.shape)))
    if pull_twice:
        pullback(g)
    gradients = pullback(g)
    names = [f"input {i}" for i in free]
    return Result(end, dict(zip(names, map(backend.to_numpy, gradients), strict=True)))
