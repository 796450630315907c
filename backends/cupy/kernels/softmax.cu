// softmax, log_softmax and cross_entropy over the rows of a matrix, one block to a row. See softmax.h.

// The two numbers of a row, for which stats has places. c holds the row afterwards if a block does: as exp(x - top) or as x.
template <typename T, int V, bool EXPONENTIALS, bool WHOLE>
__device__ void numbers_of_row(
    const T* xs, i64 n, Chunk<T, V>& c, Block<Wide<T>, 2>& block, Wide<T>& top, Wide<T>& others, Wide<T>* stats) {
  typedef Wide<T> A;
  const int width = Raw<T, V>::width();
  top = -(A)INFINITY;
  OVER_CHUNKS(from, left) {
    c.load(xs + from, left, -(A)INFINITY);
#pragma unroll
    for (int i = 0; i < c.E; i++) top = Max::of(top, c.e[i]);
  }
  top = block.template over<Max>(top);
  top = isfinite(top) ? top : 0;
  A sums[2] = {};  // of what is less than 1, and of what is 1
  OVER_CHUNKS(from, left) {
    if (!WHOLE) c.load(xs + from, left, -(A)INFINITY);
#pragma unroll
    for (int i = 0; i < c.E; i++) {
      const A e = exp(c.e[i] - top);
      sums[0] += e == 1 ? 0 : e;
      sums[1] += e == 1 ? 1 : 0;
      if (EXPONENTIALS) c.e[i] = e;
    }
  }
  block.template over<Sum>(sums);
  others = sums[0] + (sums[1] - 1);
  if (threadIdx.x == 0) {
    stats[0] = top;
    stats[1] = others;
  }
}

// x, y: (rows, n); stats: (rows, 2).
template <typename T, int V, int WHAT, bool WHOLE>
__global__ void __launch_bounds__(MOST_THREADS, WHOLE ? blocks<T, V>(3) : 1) softmax_forward(
    const T* x, T* y, Wide<T>* stats, i64 rows, i64 n) {
  typedef Wide<T> A;
  SHARED(A, scratch, 128);
  Block<A, 2> block = {scratch, 0};
  Chunk<T, V> c;
  const int width = Raw<T, V>::width();
  for (i64 row = blockIdx.x; row < rows; row += gridDim.x) {
    A top, others;
    numbers_of_row<T, V, WHAT == SOFTMAX, WHOLE>(x + row * n, n, c, block, top, others, stats + 2 * row);
    const A share = 1 / (1 + others), log_sum = log1p(others);
    OVER_CHUNKS(from, left) {
      if (!WHOLE) c.load(x + row * n + from, left, -(A)INFINITY);
#pragma unroll
      for (int i = 0; i < c.E; i++)
        c.e[i] = WHAT == LOG_SOFTMAX ? c.e[i] - top - log_sum : (WHOLE ? c.e[i] : exp(c.e[i] - top)) * share;
      c.store(y + row * n + from, left);
    }
  }
}

// x, g, dx: (rows, n); stats: (rows, 2).
template <typename T, int V, int WHAT, bool WHOLE>
__global__ void __launch_bounds__(MOST_THREADS, WHOLE ? blocks<T, V>(2) : 1) softmax_backward(
    const T* x, const Wide<T>* stats, const T* g, T* dx, i64 rows, i64 n) {
  typedef Wide<T> A;
  typedef GSums<A> Sums;
  SHARED(Sums, scratch, 64);
  Block<Sums> block = {scratch, 0};
  Chunk<T, V> c, d;
  const int width = Raw<T, V>::width();
  for (i64 row = blockIdx.x; row < rows; row += gridDim.x) {
    const T *xs = x + row * n, *gs = g + row * n;
    const A top = stats[2 * row];
    const TopShare<A> at_top = TopShare<A>::of(stats[2 * row + 1]);
    Sums sums = {0, 0};
    const auto load = [&](i64 from, i64 left) {
      c.load(xs + from, left, -(A)INFINITY);
      d.load(gs + from, left, 0);
#pragma unroll
      for (int i = 0; i < c.E; i++) c.e[i] = exp(c.e[i] - top) * at_top.p;
    };
    OVER_CHUNKS(from, left) {
      load(from, left);
#pragma unroll
      for (int i = 0; i < c.E; i++)
        if (c.is_inside(i, left)) add<WHAT>(sums, at_top, c.e[i], d.e[i]);
    }
    sums = block.template over<GSum<WHAT>>(sums);
    if (WHAT == LOG_SOFTMAX) sums.rest = sums.finite_rest();
    OVER_CHUNKS(from, left) {
      if (!WHOLE) load(from, left);
#pragma unroll
      for (int i = 0; i < c.E; i++) c.e[i] = pull_softmax<WHAT>(at_top, sums, c.e[i], d.e[i]);
      c.store(dx + row * n + from, left);
    }
  }
}

// What cross_entropy gives to the elements of a row, which c holds as p: (p - onehot) one.
template <typename T, int V>
__device__ void away_from(i64 target, i64 from, TopShare<Wide<T>> at_top, Wide<T> one, Chunk<T, V>& c) {
#pragma unroll
  for (int i = 0; i < c.E; i++) c.e[i] = (from + c.index(i) == target ? -at_top.one_minus(c.e[i]) : c.e[i]) * one;
}

// losses: (rows), in Wide<T>; stats: (rows, 2); target: (rows). *bad is set where one is no class, and its loss is NaN.
// dx: (rows, n), the gradient for a cotangent of 1 / divisor to each row, for which x need not be read again; or null.
template <typename T, int V, bool WHOLE>
__global__ void __launch_bounds__(MOST_THREADS, WHOLE ? blocks<T, V>(3) : 1) cross_entropy_forward(
    const T* x, const i64* target, Wide<T>* losses, Wide<T>* stats, int* bad, T* dx, double divisor, i64 rows, i64 n) {
  typedef Wide<T> A;
  SHARED(A, scratch, 128);
  Block<A, 2> block = {scratch, 0};
  Chunk<T, V> c;
  const int width = Raw<T, V>::width();
  for (i64 row = blockIdx.x; row < rows; row += gridDim.x) {
    const T* xs = x + row * n;
    const i64 t = target[row];
    A top, others;
    numbers_of_row<T, V, true, WHOLE>(xs, n, c, block, top, others, stats + 2 * row);
    if (threadIdx.x == 0) {
      const bool is_class = 0 <= t && t < n;
      if (!is_class) atomicOr(bad, 1);
      losses[row] = is_class ? log1p(others) - (widen(xs[t]) - top) : (A)NAN;
    }
    const A one = 1 / (A)divisor;
    const TopShare<A> at_top = TopShare<A>::of(others);
    if (dx) OVER_CHUNKS(from, left) {
      if (!WHOLE) c.load(xs + from, left, -(A)INFINITY);
#pragma unroll
      for (int i = 0; i < c.E; i++) c.e[i] = (WHOLE ? c.e[i] : exp(c.e[i] - top)) * at_top.p;
      away_from<T, V>(t, from, at_top, one, c);
      c.store(dx + row * n + from, left);
    }
  }
}

// dx = (p - onehot) g / divisor. g: (rows) with a stride of 1, or one number with a stride of 0. ahead: whether dx holds
// already what it is for a g of 1, as the forward pass has left it.
template <typename T, int V, bool WHOLE>
__global__ void __launch_bounds__(MOST_THREADS, WHOLE ? blocks<T, V>(2) : 1) cross_entropy_backward(
    const T* x, const i64* target, const Wide<T>* stats, const T* g, i64 g_stride, double divisor, T* dx, i64 ahead, i64 rows,
    i64 n) {
  typedef Wide<T> A;
  Chunk<T, V> c;
  const int width = Raw<T, V>::width();
  for (i64 row = blockIdx.x; row < rows; row += gridDim.x) {
    const A along = widen(g[row * g_stride]);
    if (ahead && along == 1) continue;
    const A top = stats[2 * row], one = along / (A)divisor;
    const TopShare<A> at_top = TopShare<A>::of(stats[2 * row + 1]);
    const i64 t = target[row];
    OVER_CHUNKS(from, left) {
      c.load(x + row * n + from, left, -(A)INFINITY);
#pragma unroll
      for (int i = 0; i < c.E; i++) c.e[i] = exp(c.e[i] - top) * at_top.p;
      away_from<T, V>(t, from, at_top, one, c);
      c.store(dx + row * n + from, left);
    }
  }
}
