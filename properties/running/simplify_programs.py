"""The search for a shorter program that fails: steps are left out for as long as it still does."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from gradspec.properties.cases.programs import INNER_STEPS, REAL, Program, Step, drop_unused
from gradspec.properties.drawing.program_builder import ProgramBuilder
from gradspec.properties.judging.judge import Judgement, get_spec_backend
from gradspec.properties.laws.programs import differentiate_program
from gradspec.properties.running.simplify import MAX_SIMPLIFY_TRIES, SIMPLIFY_SECONDS, fails_alike
from gradspec.reference import OPS


def simplify_program(program: Program, judge: Callable[[Program], Judgement]) -> Program:
    """Return a program of fewer steps or inputs that fails alike, found within a bounded number of tries.

    Args:
        program: The program to simplify.
        judge: Judges a program by the law that it breaks.
    """
    judgement = judge(program)
    if judgement.verdict not in ("disagree", "lossy"):  # it failed by chance
        return program
    end, tries = time.monotonic() + SIMPLIFY_SECONDS, MAX_SIMPLIFY_TRIES
    improved = True
    while improved:
        improved = False
        for candidate in iterate_shorter_programs(program):
            tries -= 1
            if tries < 0 or time.monotonic() > end:
                return program
            now = judge(candidate)
            if fails_alike(now, judgement):
                program, judgement, improved = candidate, now, True
                break
    return program


def iterate_shorter_programs(program: Program) -> Iterator[Program]:
    """Yield shorter programs, the shortest first: of the first steps alone, or with an input for a result."""
    with np.errstate(all="ignore"):
        for count in range(1, len(program.steps) + 1):
            if _has_several_values(program.steps[count - 1]):
                continue
            shorter = drop_unused(replace(program, steps=program.steps[:count]))
            if shorter != program and _has_gradients(shorter):
                yield shorter
        for k in reversed(range(len(program.steps) - 1)):
            if _has_several_values(program.steps[k]):
                continue
            shorter = drop_unused(_put_input_for_result(program, k))
            if len(shorter.steps) < len(program.steps) and _is_ordinary(shorter):
                yield shorter


def _has_several_values(step: Step) -> bool:
    """Return whether the result of a step is a tuple, of which other steps pick values."""
    return step[0] in OPS and OPS[step[0]].has_several_values


def _has_gradients(program: Program) -> bool:
    """Return whether the value is made of floats and depends on an input whose gradient is asked for."""
    if not program.differentiable_inputs:
        return False
    value = differentiate_program(get_spec_backend(), replace(program, steps=program.steps)).value
    return value.dtype.kind == "f" and bool(np.all(np.isfinite(value)))


def _put_input_for_result(program: Program, k: int) -> Program:
    """Return the program with a new input in the place of the result of its k-th step."""
    value = differentiate_program(get_spec_backend(), replace(program, steps=program.steps[: k + 1])).value
    new = ~len(program.inputs)
    key = 1 + max(key for _, _, key in program.inputs)
    steps = (*program.steps[: k + 1], *(_substitute(step, k, new) for step in program.steps[k + 1 :]))
    return replace(program, inputs=(*program.inputs, (value.shape, REAL, key)), steps=steps)


def _substitute(step: Step, k: int, new: int) -> Step:
    name, operands, keywords = step
    if name in INNER_STEPS:
        keywords = {**keywords, "steps": tuple(_substitute(inner, k, new) for inner in keywords["steps"])}
    return name, tuple(new if n == k else n for n in operands), keywords


def _is_ordinary(program: Program) -> bool:
    """Return whether all numbers are within their domains, away from kinks and not large."""
    if program.has_undefined_branch or not program.differentiable_inputs:
        return False
    builder = ProgramBuilder(program.dtype, program.seed, list(program.inputs))
    builder.input_values = [
        x if x.dtype.kind in "biu" else x.astype(np.float64) for x in program.drawn_inputs
    ]
    builder.usable = [~i for i in range(len(program.inputs))]
    return builder.try_steps(program.steps) and builder.values[-1].dtype.kind == "f"
