"""Stand-ins for CUDA and CuPy on a machine without a GPU, and the backends that run on them."""
