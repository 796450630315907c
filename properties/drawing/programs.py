"""Hypothesis strategies: programs, which are compositions of a backend's ops."""

from collections.abc import Sequence

from hypothesis import strategies as st

from gradspec.backends import Backend
from gradspec.properties.cases.programs import MAX_STEPS, MENU, Program, Step, filter_menu
from gradspec.properties.drawing.strategies import Draw

PROGRAMS_PER_EXAMPLE = 20
"""An example's time is mostly Hypothesis's own. With 4, cotangents that share memory were missed."""

PROGRAM_LENGTHS = (*range(1, MAX_STEPS + 1), *range(MAX_STEPS // 2, MAX_STEPS + 1))
"""How many steps a program may have. The longer ones, where more branches meet, are twice as likely."""

ONE_HUB_IN_SEEDS = 2  # one of so many seeds gives a program many of whose steps take the same input
ONE_CONSTANT_IN_SEEDS = 3  # one of so many seeds makes one of several inputs a constant


@st.composite
def programs(draw: Draw, backend: Backend, dtypes: Sequence[str]) -> Program:
    """Draw a program of the backend's ops, decoded from a block of bytes.

    Zeros add the last result to itself. Half of the steps take two values, each one of the last few results,
    so that branches meet again and few results go unused.

    Args:
        draw: Given by Hypothesis.
        backend: The backend.
        dtypes: The dtypes to choose from.
    """
    menu = filter_menu(backend)
    pairs, singles = ([name for name in menu if MENU[name].arity == k] for k in (2, 1))
    n, m = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    others = draw(st.lists(st.sampled_from([(n, m), (1, m), (n, 1)]), max_size=2))
    length = draw(st.sampled_from(PROGRAM_LENGTHS))
    block, steps = draw(st.binary(min_size=3 * length, max_size=3 * length)), list[Step]()
    dtype, seed = draw(st.sampled_from(list(dtypes))), draw(st.integers(0, 2**16))
    hub: int | None = None
    if seed % ONE_HUB_IN_SEEDS == ONE_HUB_IN_SEEDS - 1 and pairs:
        hub = seed // ONE_HUB_IN_SEEDS % (1 + len(others))
    for kind, *back in zip(block[::3], block[1::3], block[2::3], strict=True):
        names = singles if (kind % 2 and singles) or not pairs else pairs
        name, newest = names[kind // 2 % len(names)], len(others) + len(steps)
        arguments = [newest - b % min(newest + 1, 4) for b in back]
        if hub is not None and names is singles:
            arguments[0] = hub
        elif hub is not None:
            # The latest result, and with it the hub again or the result before.
            arguments = [newest, hub if back[1] % 2 else max(newest - 1, 0)]
        steps.append((name, tuple(arguments[: MENU[name].arity])))
    constants: tuple[int, ...] = ()
    if others and seed % ONE_CONSTANT_IN_SEEDS == ONE_CONSTANT_IN_SEEDS - 1:
        constants = (seed // ONE_CONSTANT_IN_SEEDS % (1 + len(others)),)
    return Program(dtype, seed, ((n, m), *others), tuple(steps), constants)
