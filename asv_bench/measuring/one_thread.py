"""Environment variables that keep NumPy's libraries on one thread.

They are read when NumPy is imported, so they must be set before. Further threads would measure how many
processors are free. asv.conf.json sets the same variables for every benchmark.
"""

ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"), "1"
)
