"""The law about programs catches faults of engines, which no law about a single op can see."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from planting import breaks, quiet

from gradspec.backends import Backend
from gradspec.properties.generating.compositions import PROGRAMS, programs
from gradspec.properties.laws.gradient import every_gradient_agrees
from gradspec.properties.laws.programs import MENU, every_gradient_of_a_program_agrees
from gradspec.properties.running.failure import Disagreement
from gradspec.properties.running.subject import Engine
from gradspec.reference import OPS
from gradspec.reference.arrays import unbroadcast

Array = Any


@dataclass(eq=False)
class Node:
    """A value of a tiny engine: what it was computed from, and its cotangent during a pass."""

    data: Array
    taken: Sequence["Node"] = ()
    pull: Callable[[Array], Sequence[Array]] = lambda g: ()
    number: int = field(default_factory=iter(range(10**9)).__next__)
    g: Array = None

    def shares(self) -> list[tuple["Node", Array]]:
        """What each node that this one was computed from gets of its cotangent."""
        pulled = zip(self.taken, self.pull(self.g), strict=True)
        return [(x, d if d.shape == x.data.shape else unbroadcast(d, x.data.shape)) for x, d in pulled]

    def add(self, d: Array) -> None:
        self.g = d if self.g is None else self.g + d


def youngest_first(root: Node) -> Iterator[Node]:
    """The nodes that lead to the root, each after all that were computed from it."""
    pending = {root.number: root}
    while pending:
        node = pending.pop(max(pending))
        yield node
        pending.update((x.number, x) for x in node.taken)


def newest_first(root: Node) -> None:
    for node in youngest_first(root):
        for x, d in node.shares():
            x.add(d)


def last_in_first_out(root: Node) -> None:
    stack, seen = [root], set[int]()
    while stack:
        node = stack.pop()
        for x, d in node.shares():
            x.add(d)
            if x.number not in seen:
                stack.append(x)
                seen.add(x.number)


def first_in_first_out(root: Node) -> None:
    queue, seen = [root], set[int]()
    while queue:
        node = queue.pop(0)
        for x, d in node.shares():
            x.add(d)
            if x.number not in seen:
                queue.append(x)
                seen.add(x.number)


def second_branch_overwrites(root: Node) -> None:
    for node in youngest_first(root):
        for x, d in node.shares():
            x.g = d


def second_branch_is_lost(root: Node) -> None:
    for node in youngest_first(root):
        for x, d in node.shares():
            if x.g is None:
                x.g = d


def an_input_used_twice_counts_once(root: Node) -> None:
    for node in youngest_first(root):
        for x, d in dict(node.shares()).items():
            x.add(d)


def cotangents_are_shared_and_added_to_in_place(root: Node) -> None:
    for node in youngest_first(root):
        for x, d in node.shares():
            if x.g is None:
                x.g = d
            elif x.g.flags.writeable:
                x.g += d
            else:
                x.g = x.g + d


def engine(traverse: Callable[[Node], None], *names: str) -> Backend:
    """A backend of the spec's rules on an engine that carries cotangents back in this way."""

    def apply(name: str) -> Callable[..., Any]:
        def op(*args: Any, **keywords: Any) -> Any:
            nodes = [x if isinstance(x, Node) else Node(x) for x in args]
            value, pullbacks = OPS[name].rule(*(x.data for x in nodes), **keywords)
            return Node(np.asarray(value), nodes, lambda g: [p(g) for p in pullbacks])  # type: ignore[union-attr, misc]

        return op

    def vjp(fn: Callable[..., Any], *inputs: Array) -> Any:
        leaves = [Node(x) for x in inputs]
        root = fn(*leaves)

        def pullback(g: Array) -> list[Array]:
            root.g = g
            traverse(root)
            return [np.zeros_like(x.data) if x.g is None else x.g.copy() for x in leaves]

        return root.data, pullback

    ops = {name: apply(name) for name in names or {op for op, _, _ in MENU.values()}}
    return Backend(traverse.__name__, ops, vjp, lambda x: x, np.asarray)


def broken(backend: Backend, how: settings) -> Disagreement | None:
    """How the backend breaks the law, or None."""
    tried_on = Engine(backend=backend, dtypes=["float64", "float32"])

    @how
    @given(data=st.data())
    def tried(data: st.DataObject) -> None:
        for _ in range(PROGRAMS):
            tried_on.obeys(every_gradient_of_a_program_agrees, data.draw(programs(tried_on)))

    try:
        tried()
    except Disagreement as found:
        return found
    return None


FAULTS = (
    last_in_first_out,
    first_in_first_out,
    second_branch_overwrites,
    second_branch_is_lost,
    an_input_used_twice_counts_once,
    cotangents_are_shared_and_added_to_in_place,
)


def test_an_engine_of_another_kind_passes() -> None:
    assert not broken(engine(newest_first), quiet)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_engine_is_found(fault: Callable[[Node], None]) -> None:
    assert broken(engine(fault), settings(quiet, phases=[Phase.generate]))


def test_it_is_shown_on_the_smallest_program() -> None:
    found = broken(engine(second_branch_is_lost), quiet)
    assert found
    assert found.case.steps == (("add", (0, 0)),)  # type: ignore[attr-defined]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("op", ["multiply", "add", "softmax"])
def test_no_law_about_a_single_op_sees_it(fault: Callable[[Node], None], op: str) -> None:
    assert not breaks(every_gradient_agrees, engine(fault, op), smooth=True)
