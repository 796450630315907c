"""The cause of a failure: what it has in common with all others that one edit would mend.

- The same exception, but for numbers in its message, at the same place: whatever op or law met it.
- A result that is no array, or gradients that are not as many as inputs: an adapter that returns them does so
  for every op.
- Else the op, and which of its results is wrong: a wrong gradient of x is wrong under many laws, in other
  layouts and batches, for constants and for scaled cotangents, and its derivative by the cotangent, of which
  it is a linear function, is as wrong. A wrong dtype is another cause than a number.
"""

import re

_RAISED = re.compile(r"\braised (\w+)(?:: (.*))?$")
_KINDS_OF_RESULT = (
    (re.compile(r"\((\w+)\), a gradient, is no array of"), "a gradient is no array but a {}"),
    (re.compile(r"\((\w+)\) is no array of"), "a result is no array but a {}"),
    (re.compile(r"the pullback returned .* and not \d+ gradients"), "the pullback returns another number"),
)
_RESULT = re.compile(
    r"(?:with .* constant, )?(?:the derivative by cotangent of )?(?:the |a cotangent of zero gives a )?"
    r"(value|gradients? of [\w\[\]]+)\b(?! and )"
)


def identify_cause(source: str, target_name: str, reason: str) -> tuple[str, ...]:
    """Return what failures of one cause have in common, and no others.

    Args:
        source: The name that the backend was loaded by.
        target_name: What was tried: the name of an op, or "programs".
        reason: Why a law is broken; below an exception lie the backend's own frames, the innermost last.
    """
    first_line, *other_lines = reason.split("\n")
    frames = [line for line in other_lines if line.startswith("  at ")]
    raised = _RAISED.search(first_line)
    if raised and frames:
        return source, f"raised {raised[1]}", _remove_numbers(raised[2] or ""), frames[-1]
    for pattern, words in _KINDS_OF_RESULT:
        if found := pattern.search(first_line):
            return source, words.format(*found.groups())
    if result := _RESULT.match(first_line):
        name = result[1].replace("gradients of", "gradient of")
        return source, target_name, f"dtype of the {name}" if " has dtype " in first_line else name
    what = re.split(r" along v | at \(| is | has | from \[| to \[", first_line)[0]
    return source, target_name, _remove_numbers(what)


def _remove_numbers(message: str) -> str:
    """Return a message without its numbers and shapes, which differ from case to case."""
    message = re.sub(r"-?\b\d[\w.]*(?:[+-]\d+)?", "#", message)
    return re.sub(r"[(\[][#,\s]*[)\]]", "#", message)
