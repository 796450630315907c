"""Drawing programs: compositions of a backend's ops."""

from hypothesis import strategies as st

from gradspec.properties.generating.strategies import Draw
from gradspec.properties.laws.programs import LONGEST, MENU, Program, Step, menu_of
from gradspec.properties.running.subject import Engine

PROGRAMS = 20  # for each example, whose time is mostly Hypothesis's; 4 missed cotangents that share memory
HUBS = 2  # of so many programs, in one many steps take the same input
LENGTHS = (
    *range(1, LONGEST + 1),
    *range(LONGEST // 2, LONGEST + 1),
)  # the longer ones, where more meets, twice as often
CONSTANTS = 3  # of so many, in one no gradient is asked of one of several inputs


@st.composite
def programs(draw: Draw, engine: Engine) -> Program:
    """Programs of the engine's ops, decoded from a block of bytes: zeros are an addition of the last result to itself.

    Half of the steps take two values, each some of the last few results, so that branches meet again and little is dead.
    """
    menu = menu_of(engine.backend)
    pairs, singles = ([name for name in menu if MENU[name].takes == k] for k in (2, 1))
    n, m = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    others = draw(st.lists(st.sampled_from([(n, m), (1, m), (n, 1)]), max_size=2))
    length = draw(st.sampled_from(LENGTHS))
    block, steps = draw(st.binary(min_size=3 * length, max_size=3 * length)), list[Step]()
    dtype, seed = draw(st.sampled_from(list(engine.dtypes))), draw(st.integers(0, 2**16))
    hub = seed // HUBS % (1 + len(others)) if seed % HUBS == HUBS - 1 and pairs else None
    for kind, *back in zip(block[::3], block[1::3], block[2::3], strict=True):
        names = singles if (kind % 2 and singles) or not pairs else pairs
        name, newest = names[kind // 2 % len(names)], len(others) + len(steps)
        taken = [newest - b % min(newest + 1, 4) for b in back]
        if hub is not None and names is singles:
            taken[0] = hub
        elif hub is not None:  # what was made of it last, and it again or what was made before
            taken = [newest, hub if back[1] % 2 else max(newest - 1, 0)]
        steps.append((name, tuple(taken[: MENU[name].takes])))
    held = (seed // CONSTANTS % (1 + len(others)),) if others and seed % CONSTANTS == CONSTANTS - 1 else ()
    return Program(dtype, seed, ((n, m), *others), tuple(steps), held)
