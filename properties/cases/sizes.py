"""How long axes are and how large arrays, wherever cases are made."""

AXIS_LENGTHS = (1, 2, 3, 0, 4, 5, 7, 8, 17, 33)
"""Lengths of axes. 1 first, so that a shrunk shape has elements; past 8 for blocks and unrolled loops."""


REPEATED_LENGTH_WEIGHT = (
    3  # times as likely as any other is the length of the axis before: squares hide transposes
)


MAX_ELEMENTS = (
    300  # elements of the largest array; a longdouble run of most ops still takes well under a millisecond
)
