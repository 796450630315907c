"""Drawing programs: compositions of a backend's ops."""

from collections.abc import Sequence

from hypothesis import strategies as st

from gradspec.backends import Backend
from gradspec.properties.cases.programs import MAX_STEPS, MENU, Program, Step, filter_menu
from gradspec.properties.drawing.strategies import Draw

PROGRAMS_PER_EXAMPLE = (
    20  # for each example, whose time is mostly Hypothesis's; 4 missed cotangents that share memory
)
SEEDS_PER_HUB = 2  # of so many programs, in one many steps take the same input
PROGRAM_LENGTHS = (
    *range(1, MAX_STEPS + 1),
    *range(MAX_STEPS // 2, MAX_STEPS + 1),
)  # the longer ones, where more meets, twice as often
SEEDS_PER_CONSTANT = 3  # of so many, in one no gradient is asked of one of several inputs


@st.composite
def programs(draw: Draw, backend: Backend, dtypes: Sequence[str]) -> Program:
    """Programs of the backend's ops, decoded from a block of bytes: zeros are an addition of the last result to itself.

    Half of the steps take two values, each some of the last few results, so that branches meet again and little is dead.
    """
    menu = filter_menu(backend)
    pairs, singles = ([name for name in menu if MENU[name].arity == k] for k in (2, 1))
    n, m = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    others = draw(st.lists(st.sampled_from([(n, m), (1, m), (n, 1)]), max_size=2))
    length = draw(st.sampled_from(PROGRAM_LENGTHS))
    block, steps = draw(st.binary(min_size=3 * length, max_size=3 * length)), list[Step]()
    dtype, seed = draw(st.sampled_from(list(dtypes))), draw(st.integers(0, 2**16))
    hub = (
        seed // SEEDS_PER_HUB % (1 + len(others))
        if seed % SEEDS_PER_HUB == SEEDS_PER_HUB - 1 and pairs
        else None
    )
    for kind, *back in zip(block[::3], block[1::3], block[2::3], strict=True):
        names = singles if (kind % 2 and singles) or not pairs else pairs
        name, newest = names[kind // 2 % len(names)], len(others) + len(steps)
        taken = [newest - b % min(newest + 1, 4) for b in back]
        if hub is not None and names is singles:
            taken[0] = hub
        elif hub is not None:  # what was made of it last, and it again or what was made before
            taken = [newest, hub if back[1] % 2 else max(newest - 1, 0)]
        steps.append((name, tuple(taken[: MENU[name].arity])))
    held = (
        (seed // SEEDS_PER_CONSTANT % (1 + len(others)),)
        if others and seed % SEEDS_PER_CONSTANT == SEEDS_PER_CONSTANT - 1
        else ()
    )
    return Program(dtype, seed, ((n, m), *others), tuple(steps), held)
