"""How long axes are and how large arrays, wherever cases are made."""

AXIS_LENGTHS = (1, 2, 3, 0, 4, 5, 7, 8, 17, 33)
"""Lengths of axes: 1 first, so that shrunk shapes have elements; past 8 for blocks and unrolled loops."""

REPEATED_LENGTH_WEIGHT = 3
"""How many more times the length of the axis before is among the options: squares hide transposes."""

MAX_ELEMENTS = 300
"""Of an array. A run of most ops in longdouble then still takes well under a millisecond."""
