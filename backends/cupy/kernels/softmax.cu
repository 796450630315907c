// softmax, log_softmax and cross_entropy over the rows of a matrix, one block to a row.
//
// The forward pass leaves of each row its maximum, or 0 where that is infinite, and the sum of exp(x - maximum); the
// backward pass computes p = exp(x - maximum) / sum again from x, which costs no traffic and loses no digits.

enum { SOFTMAX, LOG_SOFTMAX, CROSS_ENTROPY };

// x: (rows, n). y: (rows, n), or for CROSS_ENTROPY the losses, (rows), in Wide<T>. stats: (rows, 2). target: (rows), for
// CROSS_ENTROPY only; *bad is set where one is no class, and its loss is NaN.
template <typename T, int V, int WHAT>
__global__ void __launch_bounds__(512, 1) softmax_forward(
    const T* x, void* y, Wide<T>* stats, const i64* target, bool* bad, i64 rows, i64 n) {
  typedef Wide<T> A;
  SHARED(A, scratch, 32);
  Chunk<T, V> c;
  const i64 width = c.width();
  for (i64 row = blockIdx.x; row < rows; row += gridDim.x) {
    const T* xs = x + row * n;
    A top = -(A)INFINITY, sum = 0;
    for (i64 from = 0; from < n; from += width) {
      c.load(xs, from, n, -(A)INFINITY);
#pragma unroll
      for (int i = 0; i < c.E; i++) top = Max::of(top, c.e[i]);
    }
    top = over_block<Max>(top, scratch);
    top = isfinite(top) ? top : 0;
    for (i64 from = 0; from < n; from += width) {
      if (n > width) c.load(xs, from, n, -(A)INFINITY);
#pragma unroll
      for (int i = 0; i < c.E; i++) sum += exp(c.e[i] - top);
    }
    sum = over_block<Sum>(sum, scratch);
    if (threadIdx.x == 0) {
      stats[2 * row] = top;
      stats[2 * row + 1] = sum;
    }
    if (WHAT == CROSS_ENTROPY) {
      if (threadIdx.x == 0) {
        i64 t = target[row];
        bool is_class = 0 <= t && t < n;
        if (!is_class) *bad = true;
        ((A*)y)[row] = is_class ? log(sum) - (widen(xs[t]) - top) : (A)NAN;
      }
      continue;
    }
    A log_sum = log(sum);
    for (i64 from = 0; from < n; from += width) {
      if (n > width) c.load(xs, from, n, -(A)INFINITY);
#pragma unroll
      for (int i = 0; i < c.E; i++)
        c.e[i] = WHAT == SOFTMAX ? exp(c.e[i] - top) / sum : c.e[i] - top - log_sum;
      c.store((T*)y + row * n, from, n);
    }
  }
}

// softmax: dx = p (g - sum(g p)); log_softmax: dx = g - p sum(g); cross_entropy: dx = (p - onehot) g / divisor.
// g: (rows, n), or for CROSS_ENTROPY (rows) with a stride of 1, or one number with a stride of 0.
template <typename T, int V, int WHAT>
__global__ void __launch_bounds__(512, 1) softmax_backward(
    const T* x, const Wide<T>* stats, const T* g, T* dx, const i64* target, i64 g_stride, double divisor, i64 rows, i64 n) {
  typedef Wide<T> A;
  SHARED(A, scratch, 32);
  Chunk<T, V> c, d;
  const i64 width = c.width();
  for (i64 row = blockIdx.x; row < rows; row += gridDim.x) {
    const T *xs = x + row * n, *gs = WHAT == CROSS_ENTROPY ? g : g + row * n;
    const A top = stats[2 * row], sum = stats[2 * row + 1];
    A total = 0, one = WHAT == CROSS_ENTROPY ? widen(g[row * g_stride]) / (A)divisor : (A)0;
    const i64 hot = WHAT == CROSS_ENTROPY ? target[row] : -1;
    for (i64 from = 0; from < n && WHAT != CROSS_ENTROPY; from += width) {
      c.load(xs, from, n, -(A)INFINITY);
      d.load(gs, from, n, 0);
#pragma unroll
      for (int i = 0; i < c.E; i++) {
        c.e[i] = exp(c.e[i] - top) / sum;
        total += WHAT == SOFTMAX ? (c.index(from, i) < n ? d.e[i] * c.e[i] : (A)0) : d.e[i];
      }
    }
    if (WHAT != CROSS_ENTROPY) total = over_block<Sum>(total, scratch);
    for (i64 from = 0; from < n; from += width) {
      if (n > width || WHAT == CROSS_ENTROPY) {
        c.load(xs, from, n, -(A)INFINITY);
        if (WHAT != CROSS_ENTROPY) d.load(gs, from, n, 0);
#pragma unroll
        for (int i = 0; i < c.E; i++) c.e[i] = exp(c.e[i] - top) / sum;
      }
#pragma unroll
      for (int i = 0; i < c.E; i++) {
        if (WHAT == SOFTMAX) c.e[i] = c.e[i] * (d.e[i] - total);
        if (WHAT == LOG_SOFTMAX) c.e[i] = d.e[i] - c.e[i] * total;
        if (WHAT == CROSS_ENTROPY) c.e[i] = (c.index(from, i) == hot ? c.e[i] - 1 : c.e[i]) * one;
      }
      c.store(dx + row * n, from, n);
    }
  }
}
