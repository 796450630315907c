"""Faults of engines, which carry cotangents through programs: tiny wrong ones, and the spec's own, spoilt."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any
from unittest import mock

import numpy as np

from gradspec import reference
from gradspec.backends import Backend, load
from gradspec.reference import OPS, Op, Variable, grad_mode, inplace_writes, tape
from gradspec.reference.arrays import unbroadcast
from tests.faults.fault import (
    DEPTH_PROPERTY,
    PROGRAMS_PROPERTY,
    TENSOR_PROPERTY,
    Array,
    Fault,
    apply_spec_rule,
    spell_out_name,
)
from tests.faults.wrong_programs import make_program_faults

KIND_ENGINE = "engine"


@dataclass(eq=False)
class Node:
    """A value of a tiny engine: what it was computed from, and its cotangent during a pass."""

    data: Array
    inputs: Sequence["Node"] = ()
    pull: Callable[[Array], Sequence[Array]] = lambda g: ()
    op: str = ""
    creation_number: int = field(default_factory=iter(range(10**9)).__next__)
    g: Array = None

    def pull_to_inputs(self) -> list[tuple["Node", Array]]:
        """Return the nodes that this one was computed from and that have gradients, each with its share."""
        if self.g is None:  # nothing was carried back to it
            return []
        shares = [(x, d) for x, d in zip(self.inputs, self.pull(self.g), strict=False) if d is not None]
        return [(x, d if d.shape == x.data.shape else unbroadcast(d, x.data.shape)) for x, d in shares]

    def accumulate(self, d: Array) -> None:
        self.g = d if self.g is None else self.g + d


def iterate_newest_first(root: Node) -> Iterator[Node]:
    """Yield the nodes that the root was computed from and the root, each after all nodes computed from it."""
    pending = {root.creation_number: root}
    while pending:
        node = pending.pop(max(pending))
        yield node
        pending.update((x.creation_number, x) for x in node.inputs)


def pull_newest_first(root: Node) -> None:
    """Carry cotangents back in the right order."""
    for node in iterate_newest_first(root):
        for x, d in node.pull_to_inputs():
            x.accumulate(d)


def pull_as_they_come(root: Node, next_at: int) -> None:
    """Visit the node that was met last (-1) or first (0), whether its cotangent is complete or not."""
    waiting, seen = [root], set[int]()
    while waiting:
        node = waiting.pop(next_at)
        for x, d in node.pull_to_inputs():
            x.accumulate(d)
            if x.creation_number not in seen:
                waiting.append(x)
                seen.add(x.creation_number)


def last_in_first_out(root: Node) -> None:
    pull_as_they_come(root, -1)


def first_in_first_out(root: Node) -> None:
    pull_as_they_come(root, 0)


def second_branch_overwrites(root: Node) -> None:
    for node in iterate_newest_first(root):
        for x, d in node.pull_to_inputs():
            x.g = d


def second_branch_is_lost(root: Node) -> None:
    for node in iterate_newest_first(root):
        for x, d in node.pull_to_inputs():
            if x.g is None:
                x.g = d


def an_input_used_twice_counts_once(root: Node) -> None:
    for node in iterate_newest_first(root):
        for x, d in dict(node.pull_to_inputs()).items():
            x.accumulate(d)


def cotangents_are_shared_and_added_to_in_place(root: Node) -> None:
    for node in iterate_newest_first(root):
        for x, d in node.pull_to_inputs():
            if x.g is None:
                x.g = d
            elif x.g.flags.writeable:
                x.g += d
            else:
                x.g = x.g + d


def from_the_fifth_consumer_on_the_sum_doubles(root: Node) -> None:
    """As in https://github.com/apache/mxnet/issues/17989: sums of more than a few gradients were wrong."""
    counts: dict[int, int] = {}
    for node in iterate_newest_first(root):
        for x, d in node.pull_to_inputs():
            x.accumulate(d)
            counts[x.creation_number] = counts.get(x.creation_number, 0) + 1
            if counts[x.creation_number] > 4:
                x.g = 2 * x.g


def an_index_overwrites_what_others_paid(root: Node) -> None:
    """As in https://github.com/apache/mxnet/issues/15172, there with masks."""
    for node in iterate_newest_first(root):
        for x, d in node.pull_to_inputs():
            x.g = d if node.op == "getitem" else d if x.g is None else x.g + d


def buffers_are_used_again_the_callers_too(root: Node) -> None:
    """A cotangent that was carried back leaves its memory to the next; that of the root is the caller's."""
    free: list[Array] = []
    for node in iterate_newest_first(root):
        for x, d in node.pull_to_inputs():
            if x.g is None and free and free[-1].shape == d.shape:
                x.g = free.pop()
                x.g[...] = d
            else:
                x.accumulate(np.array(d))
        free.append(node.g)


def what_is_small_counts_as_nothing(root: Node) -> None:
    """A branch is cut off where its cotangent is nearly zero."""
    for node in iterate_newest_first(root):
        if node.g is not None and np.any(np.abs(node.g) > 1e-8):
            for x, d in node.pull_to_inputs():
                x.accumulate(d)


def results_are_known_by_their_inputs_alone() -> Backend:
    """Return an engine that looks results up by the inputs and forgets the keywords."""
    right = make_engine(pull_newest_first)
    cache: dict[Any, Any] = {}

    def compute_once(name: str, fn: Callable[..., Any]) -> Callable[..., Any]:
        def op(*args: Any, **keywords: Any) -> Any:
            key = (name, *map(id, args))
            if key not in cache:
                # The arguments are kept alive, so that no other object gets their ids.
                cache[key] = fn(*args, **keywords), args
            return cache[key][0]

        return op

    def vjp(*arguments: Any) -> Any:
        cache.clear()
        return right.vjp(*arguments)

    ops = {name: compute_once(name, fn) for name, fn in right.ops.items()}
    return replace(right, name="results_are_known", ops=ops, vjp=vjp)


def pull_by_recursion(root: Node) -> None:
    """Carry cotangents back by recursion: right, except for programs longer than the stack is deep."""
    order: dict[int, Node] = {}

    def visit(node: Node) -> None:
        for x in node.inputs:
            if x.creation_number not in order:
                visit(x)
        order[node.creation_number] = node

    visit(root)
    for node in reversed(order.values()):
        for x, d in node.pull_to_inputs():
            x.accumulate(d)


def make_engine(traverse: Callable[[Node], None], *names: str) -> Backend:
    """Return a backend of the spec's rules, of all by default, on an engine that goes back by `traverse`."""

    def apply(name: str) -> Callable[..., Any]:
        def op(*args: Any, **keywords: Any) -> Any:
            args = args[0] if OPS[name].variadic else args
            nodes = [x if isinstance(x, Node) else Node(x) for x in args]
            is_recorded = any(isinstance(x, Node) for x in args)

            def apply_form(form: Op) -> Any:
                value, pull = apply_spec_rule(form, *(x.data for x in nodes), **keywords)
                return Node(np.asarray(value), nodes, pull, name) if is_recorded else np.asarray(value)

            if not OPS[name].has_several_values:
                return apply_form(OPS[name])
            values = OPS[name].compute_value(*(x.data for x in nodes), **keywords)
            return tuple(apply_form(OPS[name].pick(k)) for k in range(len(values)))

        return op

    def vjp(fn: Callable[..., Any], *inputs: Array) -> Any:
        leaves = [Node(x) for x in inputs]
        root = fn(*leaves)
        root = root if isinstance(root, Node) else Node(root)  # it does not depend on the inputs

        def pullback(g: Array) -> list[Array]:
            for node in iterate_newest_first(root):
                node.g = None
            root.g = g
            traverse(root)
            return [np.zeros_like(x.data) if x.g is None else np.array(x.g) for x in leaves]

        return root.data, pullback

    ops = {name: apply(name) for name in names or OPS}
    return Backend(traverse.__name__, ops, vjp, lambda x: x, np.asarray)


WRONG_TRAVERSALS = (
    *(last_in_first_out, first_in_first_out, second_branch_overwrites, second_branch_is_lost),
    *(an_input_used_twice_counts_once, cotangents_are_shared_and_added_to_in_place),
    *(from_the_fifth_consumer_on_the_sum_doubles, an_index_overwrites_what_others_paid),
    *(buffers_are_used_again_the_callers_too, what_is_small_counts_as_nothing),
)
"""Traversals that go wrong where branches meet, when a program is pulled back again, or for some numbers."""


# The spec's own engine, spoilt


def backward_overwrites(self: Variable, end_grad: Array = None, *, create_graph: bool = False) -> None:
    start = tape._prepare_cotangent(self, end_grad, create_graph)
    for leaf, g in tape._compute_owned_gradients(self, start, create_graph).values():
        leaf.grad = tape._wrap(type(leaf), g)


@contextmanager
def no_grad_not_restored_after_an_error() -> Iterator[None]:
    grad_mode._change_no_grad_count(1)
    token = grad_mode._grad_enabled.set(False)
    yield
    grad_mode._grad_enabled.reset(token)
    grad_mode._change_no_grad_count(-1)


@contextmanager
def share_gradients() -> Iterator[None]:
    """Within this context leaves share the memory of a gradient."""
    with (
        mock.patch.object(tape, "_copy_cotangent", lambda g: g),
        mock.patch.object(tape, "is_sole_reference", return_value=True),
    ):
        yield


@contextmanager
def leak_no_grad() -> Iterator[None]:
    """Within this context an exception leaves no_grad on."""
    count = grad_mode.no_grad_count
    token = grad_mode._grad_enabled.set(True)
    try:
        with mock.patch.object(reference, "no_grad", no_grad_not_restored_after_an_error):
            yield
    finally:
        grad_mode._grad_enabled.set(True)
        grad_mode._grad_enabled.reset(token)
        grad_mode.no_grad_count = count


SPOILERS_OF_SPEC_ENGINE: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "a second pass overwrites the gradient of a leaf": partial(
        mock.patch.object, Variable, "backward", backward_overwrites
    ),
    "leaves share the memory of a gradient": share_gradients,
    "nothing is recorded after an exception within no_grad": leak_no_grad,
    "no_grad records all the same": partial(mock.patch.object, reference, "no_grad", nullcontext),
    "an array that is overwritten before the pass is not noticed": partial(
        mock.patch.object, inplace_writes, "note_write"
    ),
}
"""By the name of the fault, the context manager that spoils the spec's engine in this way."""


def make_engine_faults() -> Iterator[Fault]:
    """Yield the faults of the tiny engines, which are backends, and of the spec's, compared with torch."""
    yield from make_program_faults()
    make_fault = partial(Fault, "programs", KIND_ENGINE)
    for traverse in WRONG_TRAVERSALS:
        yield make_fault(spell_out_name(traverse), partial(make_engine, traverse), PROGRAMS_PROPERTY)
    make_backend = results_are_known_by_their_inputs_alone
    yield make_fault(spell_out_name(make_backend), make_backend, PROGRAMS_PROPERTY)
    yield make_fault("the pass back recurses", partial(make_engine, pull_by_recursion), DEPTH_PROPERTY)
    for name, spoil in SPOILERS_OF_SPEC_ENGINE.items():
        yield make_fault(name, partial(load, "torch"), TENSOR_PROPERTY, spoil_spec=spoil)
