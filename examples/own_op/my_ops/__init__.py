"""A package with a layer of its own; who uses it needs no gradspec."""

from my_ops.layer import gaussian

__all__ = ["gaussian"]
