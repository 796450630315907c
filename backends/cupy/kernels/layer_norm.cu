// layer_norm over the rows of a matrix, one block to a row.

// y = (x - mean) rstd weight + bias. x, y: (rows, n); weight, bias: (n); stats: (rows, 2), the mean and rstd of each row.
template <typename T, int V>
__global__ void __launch_bounds__(512, 1) layer_norm_forward(
    const T* x, const T* weight, const T* bias, T* y, Wide<T>* stats, double eps, i64 rows, i64 n) {
  typedef Wide<T> A;
  SHARED(A, scratch, 32);
  Chunk<T, V> c, w, b;
  const i64 width = c.width();
  for (i64 row = blockIdx.x; row < rows; row += gridDim.x) {
    const T* xs = x + row * n;
    A mean = 0, square = 0;
    for (i64 from = 0; from < n; from += width) {
      c.load(xs, from, n, 0);
#pragma unroll
      for (int i = 0; i < c.E; i++) mean += c.e[i];
    }
    mean = over_block<Sum>(mean, scratch) / (A)n;
    for (i64 from = 0; from < n; from += width) {
      if (n > width) c.load(xs, from, n, 0);
#pragma unroll
      for (int i = 0; i < c.E; i++) {
        A centred = c.index(from, i) < n ? c.e[i] - mean : (A)0;
        square += centred * centred;
      }
    }
    const A rstd = 1 / sqrt(over_block<Sum>(square, scratch) / (A)n + (A)eps);
    if (threadIdx.x == 0) {
      stats[2 * row] = mean;
      stats[2 * row + 1] = rstd;
    }
    for (i64 from = 0; from < n; from += width) {
      if (n > width) c.load(xs, from, n, 0);
      w.load(weight, from, n, 0);
      b.load(bias, from, n, 0);
#pragma unroll
      for (int i = 0; i < c.E; i++) c.e[i] = (c.e[i] - mean) * rstd * w.e[i] + b.e[i];
      c.store(y + row * n, from, n);
    }
  }
}

// dx = rstd (g weight - mean(g weight) - xhat mean(g weight xhat)), and of each block its share of
// dweight = sum(g xhat) and dbias = sum(g) over the rows, in partial: (2, blocks, n), zeros on entry.
template <typename T, int V>
__global__ void __launch_bounds__(512, 1) layer_norm_backward(
    const T* x, const T* weight, const Wide<T>* stats, const T* g, T* dx, Wide<T>* partial, i64 rows, i64 n) {
  typedef Wide<T> A;
  SHARED(A, scratch, 32);
  constexpr int E = Chunk<T, V>::E;
  Chunk<T, V> c, d;
  A dweight[E] = {}, dbias[E] = {};  // of the one chunk, where a row is no longer than that
  const i64 width = c.width();
  A *dweights = partial + blockIdx.x * n, *dbiases = partial + ((i64)gridDim.x + blockIdx.x) * n;
  for (i64 row = blockIdx.x; row < rows; row += gridDim.x) {
    const T *xs = x + row * n, *gs = g + row * n;
    const A mean = stats[2 * row], rstd = stats[2 * row + 1];
    A along = 0, plain = 0;
    for (i64 from = 0; from < n; from += width) {
      c.load(xs, from, n, mean);
      d.load(gs, from, n, 0);
#pragma unroll
      for (int i = 0; i < E; i++) {
        i64 at = c.index(from, i);
        A xhat = (c.e[i] - mean) * rstd, gw = at < n ? d.e[i] * widen(weight[at]) : (A)0;
        along += at < n ? gw * xhat : (A)0;
        plain += gw;
        if (n > width && at < n) {
          dweights[at] += d.e[i] * xhat;
          dbiases[at] += d.e[i];
        } else {
          dweight[i] += d.e[i] * xhat;
          dbias[i] += d.e[i];
        }
      }
    }
    along = over_block<Sum>(along, scratch) / (A)n;
    plain = over_block<Sum>(plain, scratch) / (A)n;
    for (i64 from = 0; from < n; from += width) {
      if (n > width) {
        c.load(xs, from, n, mean);
        d.load(gs, from, n, 0);
      }
#pragma unroll
      for (int i = 0; i < E; i++) {
        i64 at = c.index(from, i);
        A gw = at < n ? d.e[i] * widen(weight[at]) : (A)0;
        c.e[i] = rstd * (gw - plain - (c.e[i] - mean) * rstd * along);
      }
      c.store(dx + row * n, from, n);
    }
  }
  if (n <= width) {
#pragma unroll
    for (int i = 0; i < E; i++) {
      i64 at = c.index(0, i);
      if (at < n) {
        dweights[at] = dweight[i];
        dbiases[at] = dbias[i];
      }
    }
  }
}
