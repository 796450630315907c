"""Environment variables that keep NumPy's libraries on one thread.

They are read when NumPy and torch are imported, so they must be set before. Further threads would measure how
many processors are free. asv.conf.json sets the same variables for every benchmark.
"""

import os

ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1"
)


def set_thread_counts() -> None:
    """Ask for one thread, where the environment says nothing else."""
    for variable, count in ONE_THREAD.items():
        os.environ.setdefault(variable, count)


def describe_thread_counts() -> str:
    """Return on how many threads the libraries run, in words."""
    others = {name: os.environ.get(name) for name in ONE_THREAD if os.environ.get(name) != "1"}
    return ", ".join(f"{name}={count}" for name, count in others.items()) or "one thread"
