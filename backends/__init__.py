"""The libraries under test: tables of ops with one function that differentiates through them.

Importing this package imports none of the libraries; `load` imports the one it is asked for.
"""

from gradspec.backends.array_api import ops_from
from gradspec.backends.backend import Backend, Declined, Unavailable, call
from gradspec.backends.loading import load, load_all

__all__ = ["Backend", "Declined", "Unavailable", "call", "load", "load_all", "ops_from"]
