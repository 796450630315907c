"""rms_norm as two kernels in CUDA C, for float32: a warp to a row."""

from typing import Any

import cupy
import numpy as np

from gradspec.reference import VJP, record

SOURCE = r"""
__device__ float sum_over_warp(float x) {
  for (int distance = 16; distance; distance /= 2) x += __shfl_xor_sync(0xffffffff, x, distance);
  return x;
}

extern "C" __global__ void rms_norm_forward(
    const float* x, const float* weight, float* y, float* rstd, float eps, long long m, long long n) {
  const long long row = (blockIdx.x * (long long)blockDim.x + threadIdx.x) / 32, lane = threadIdx.x % 32;
  if (row >= m) return;
  x += row * n, y += row * n;
  float squares = 0;
  for (long long i = lane; i < n; i += 32) squares += x[i] * x[i];
  const float scale = 1 / sqrtf(sum_over_warp(squares) / n + eps);
  for (long long i = lane; i < n; i += 32) y[i] = x[i] * scale * weight[i];
  if (lane == 0) rstd[row] = scale;
}

extern "C" __global__ void rms_norm_backward(
    const float* x, const float* weight, const float* rstd, const float* g, float* dx, float* terms,
    long long m, long long n) {
  const long long row = (blockIdx.x * (long long)blockDim.x + threadIdx.x) / 32, lane = threadIdx.x % 32;
  if (row >= m) return;
  x += row * n, g += row * n, dx += row * n, terms += row * n;
  const float scale = rstd[row];
  float along = 0;
  for (long long i = lane; i < n; i += 32) along += g[i] * weight[i] * x[i] * scale;
  along = sum_over_warp(along) / n;
  for (long long i = lane; i < n; i += 32) {
    const float xhat = x[i] * scale;
    dx[i] = scale * (g[i] * weight[i] - xhat * along);
    terms[i] = g[i] * xhat;
  }
}
"""
THREADS = 128
ROWS_PER_BLOCK = THREADS // 32

forward_kernel = cupy.RawKernel(SOURCE, "rms_norm_forward")
backward_kernel = cupy.RawKernel(SOURCE, "rms_norm_backward")


@record
def rms_norm(x: Any, weight: Any, *, eps: float = 1e-6) -> VJP:
    """Normalize x along its last axis: its value, and a pullback to the gradients of x and weight.

    CuPy has no autograd: `record` puts the function on gradspec's tape.
    """
    x, weight = cupy.ascontiguousarray(x), cupy.ascontiguousarray(weight)
    n = weight.size
    m = x.size // n if n else 0
    blocks, sizes = -(-m // ROWS_PER_BLOCK), (np.int64(m), np.int64(n))
    y, rstd = cupy.empty_like(x), cupy.empty(m, np.float32)
    if blocks:
        forward_kernel((blocks,), (THREADS,), (x, weight, y, rstd, np.float32(eps), *sizes))

    def pull(g: Any) -> tuple[Any, Any]:
        g = cupy.ascontiguousarray(g)
        dx, terms = cupy.empty_like(x), cupy.empty((m, n), np.float32)
        if blocks:
            backward_kernel((blocks,), (THREADS,), (x, weight, rstd, g, dx, terms, *sizes))
        return dx, cupy.sum(terms, axis=0)

    return y, pull
