"""What stands in for CUDA and CuPy on a machine without a GPU."""
