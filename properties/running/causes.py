"""The cause of a failure: what it has in common with all others that one edit would mend.

- The op, and which of its results is wrong: a wrong gradient of x is wrong under many laws, in other layouts
  and batches, for constants and for scaled cotangents, and its derivative by the cotangent, of which it is a
  linear function, is as wrong. A wrong dtype is another cause than a number.
- The op, and the same exception, but for numbers in its message, at the same place. Of one that shows where
  the stack or the memory ran out, the place is chance.
- The op, and that a result is not an array, of whatever class, or that gradients are not as many as inputs.
- The op, and that one array stands for two inputs.

The last three kinds may have a cause that lies below the ops: in the adapter, or in what all ops of the
library go through. Two ops with bugs of their own may raise at one place as well, say where an engine adds up
gradients of different shapes. So failures that are alike are one cause if the adapter alone shows it, or if
many ops do; those of few ops are as many causes as ops.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

from gradspec.properties.laws.first_contact import ADAPTER
from gradspec.properties.running.op_selection import PROGRAMS

_PARTS_WITH_PLACE = 5
"""How many parts the signature of an exception has: source, target, class, message and place."""

MIN_WORDS_OF_A_SENTENCE = 6
"""A message of so many words says what is wrong; a shorter one may be said of several things."""

MIN_OPS_OF_A_WALL = 3
"""So many ops that raise the same at the same place have run into one wall, it is taken."""

_RAISED = re.compile(r"\braised (\w+)(?:: (.*))?$")
_EXHAUSTED = re.compile(r"RecursionError|\w*MemoryError")
_KINDS_OF_RESULT = (
    (re.compile(r"the gradient .* \(\w+\) is not an? .* array"), "a gradient is not an array"),
    (re.compile(r"\(\w+\) is not an? .* array"), "a result is not an array"),
    (re.compile(r"the pullback returned .*, not \d+ gradients"), "the pullback returns another number"),
)
ONE_LEAF = "one array for two inputs"
_MAY_LIE_BELOW_THE_OPS = ("raised ", ONE_LEAF, *(words for _, words in _KINDS_OF_RESULT))
_SHARED = re.compile(r"with one array for .*?, the (gradient of \S+)")
_RESULT = re.compile(
    r"(?:with .* constant, )?(?:the derivative by cotangent of )?(?:for a cotangent of zero )?(?:the )?"
    r"(value|gradients? of [\w\[\]]+)\b(?! and )"
)


_UNFIT_SHAPES = re.compile(r"could not be broadcast|[Nn]on-broadcastable|could not broadcast")
_DERIVATIVE = re.compile(r"the derivative by \S+ of the (gradient of \S+)")


class Failure(Protocol):
    """What is looked at of a failure: its signature, what was tried, and the text that shows its case."""

    signature: tuple[str, ...]
    target_name: str
    text: str


F = TypeVar("F", bound=Failure)


def identify_cause(source: str, target_name: str, reason: str) -> tuple[str, ...]:
    """Return what failures of one cause, in one op, have in common, and no others.

    Args:
        source: The name that the backend was loaded by.
        target_name: What was tried: the name of an op, "programs" or "adapter".
        reason: Why a law is broken; below an exception lie the backend's own frames, the innermost last.

    Returns:
        The source, the target, and the cause in one or more parts.
    """
    first_line, *other_lines = reason.split("\n")
    frames = [line for line in other_lines if line.startswith("  at ")]
    raised = _RAISED.search(first_line)
    if raised and _EXHAUSTED.fullmatch(raised[1]):
        return source, target_name, f"raised {raised[1]}"
    if raised:
        message = _remove_numbers(raised[2] or "")
        return source, target_name, f"raised {raised[1]}", message, *frames[-1:]
    for pattern, words in _KINDS_OF_RESULT:
        if pattern.search(first_line):
            return source, target_name, words
    if shared := _SHARED.match(first_line):
        return source, target_name, ONE_LEAF, shared[1]
    if result := _RESULT.match(first_line):
        name = result[1].replace("gradients of", "gradient of")
        return source, target_name, f"dtype of the {name}" if " has dtype " in first_line else name
    what = re.split(r" along v | at \(| is | has | from \[| to \[", first_line)[0]
    return source, target_name, _remove_numbers(what)


def group_by_cause(failures: Iterable[F]) -> list[list[F]]:
    """Return groups of failures of one cause each.

    Args:
        failures: All of a run: what lies below the ops is seen by how many of them meet it.
    """
    failures = list(failures)
    signatures = _unite_signatures([tuple(failure.signature) for failure in failures])
    alike: dict[tuple[str, ...], list[F]] = defaultdict(list)
    groups: dict[tuple[str, ...], list[F]] = defaultdict(list)
    for failure, signature in zip(failures, signatures, strict=True):
        source, *of_op = signature
        if len(of_op) > 1 and of_op[1].startswith(_MAY_LIE_BELOW_THE_OPS):
            alike[source, *of_op[1:]].append(failure)
        else:
            groups[signature].append(failure)
    return [*groups.values(), *(group for candidates in alike.values() for group in _split_by_op(candidates))]


def _unite_signatures(signatures: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Return signatures, one for each failure, the same where another failure of the run shows the cause.

    - An exception of an op is at one place if it has no frames of the backend, as where a function of a
      compiled library is the op itself, or if its message is a whole sentence: libraries that cut their
      tracebacks show another place where `vjp` calls the op than where a law does. That place is taken which
      most ops have.
    - A derivative of a gradient is wrong as the gradient itself is, where that is wrong, too; and so is the
      gradient where one array is given for two inputs. Where it is not, `vjp` takes them for one.
    """
    known = dict.fromkeys(signatures)
    places = [s for s in known if len(s) == _PARTS_WITH_PLACE]
    op_count = Counter((source, *of_cause) for source, _, *of_cause in places)

    def unite(signature: tuple[str, ...]) -> tuple[str, ...]:
        source, op, *cause = signature
        if cause[0].startswith("raised ") and len(cause) > 1:
            is_sentence = len(cause[1].split()) >= MIN_WORDS_OF_A_SENTENCE
            if len(signature) == _PARTS_WITH_PLACE and not is_sentence:
                return signature
            same = [s for s in places if s[:4] == signature[:4]]
            return max(same, key=lambda s: (op_count[(source, *s[2:])], s), default=signature)
        if cause[0] == ONE_LEAF:
            first = (source, op, cause[1])
            return first if first in known else (source, op, ONE_LEAF)
        if of := _DERIVATIVE.fullmatch(cause[0]):
            first = (source, op, of[1])
            return first if first in known else signature
        return signature

    return [unite(s) if len(s) > 2 else s for s in signatures]


def _split_by_op(alike: list[F]) -> list[list[F]]:
    """Return failures that are alike: in one group if their cause lies below the ops, else in one by op.

    A program is in the group of the first op that it has in it.
    """
    targets = dict.fromkeys(failure.target_name for failure in alike)
    ops = sorted(name for name in targets if name not in (PROGRAMS, ADAPTER))
    if ADAPTER in targets or len(ops) >= MIN_OPS_OF_A_WALL:
        return [alike]
    groups: dict[str, list[F]] = defaultdict(list)
    for failure in alike:
        within = [op for op in ops if re.search(rf"\b{re.escape(op)}\(", failure.text)]
        is_program = failure.target_name == PROGRAMS
        groups[within[0] if is_program and within else failure.target_name].append(failure)
    return [*groups.values()]


def _remove_numbers(message: str) -> str:
    """Return a message without its numbers and shapes, which differ from case to case.

    NumPy has several messages for shapes that do not fit, depending on which of them is longer.
    """
    if _UNFIT_SHAPES.search(message):
        return "shapes do not fit"
    message = re.sub(r"-?\b\d[\w.]*(?:[+-]\d+)?", "#", message)
    message = re.sub(r"#(?:,\s*#)+", "#", message)
    return re.sub(r"[(\[][#,\s]*[)\]]", "#", message)
