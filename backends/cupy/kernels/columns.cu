// softmax, log_softmax and cross_entropy along an axis that is not the last: the columns of (outer, n, inner).
//
// A warp reads V columns a thread, and each warp of a block takes its share of their rows. The maximum and the sum of
// exp(x - maximum) are found in one pass, which takes what was summed to the new maximum whenever there is one (Milakov and
// Gimelshein, 2018). What is left for the backward pass is said in softmax.h.

enum { WARPS = 8 };

// How many rows a thread loads before it works on them.
template <int V> __device__ constexpr int at_once() { return V > 4 ? 2 : 4; }

// The place of a thread: in the first of its columns.
template <int V> struct Place {
  i64 n, inner, first;
  int warp;
  bool inside;

  __device__ Place(i64 n, i64 inner) : n(n), inner(inner), warp(threadIdx.x / 32) {
    first = ((i64)blockIdx.x * 32 + threadIdx.x % 32) * V;
    inside = first < inner;  // a multiple of V
  }
  __device__ i64 row(i64 outer, i64 i) const { return (outer * n + i) * inner + first; }
  __device__ i64 column(i64 outer) const { return outer * inner + first; }
};

// The sum or maximum of x over the warps of a block, for each column.
template <typename How, typename A, int V> __device__ void over_warps(A (&x)[V], A* scratch) {
  __syncthreads();  // scratch may still be read from the time before
#pragma unroll
  for (int k = 0; k < V; k++) scratch[k * blockDim.x + threadIdx.x] = x[k];
  __syncthreads();
#pragma unroll
  for (int k = 0; k < V; k++) {
    x[k] = scratch[k * blockDim.x + threadIdx.x % 32];
    for (int w = 32; w < blockDim.x; w += 32) x[k] = How::of(x[k], scratch[k * blockDim.x + w + threadIdx.x % 32]);
  }
}

// A maximum that is infinite does not shift x.
template <typename A> __device__ A finite_or_0(A x) { return isfinite(x) ? x : (A)0; }

// What was summed of exp(x - top) to a new maximum; tops: how many of these terms were 1, which are kept apart.
template <typename A> __device__ void shift(A& top, A& sum, A& tops, A highest) {
  if (top == highest) return;
  sum = (sum + tops) * exp(top - highest);
  tops = 0;
  top = highest;
}

// The two numbers of each column of a thread, for which stats, (outer, inner, 2), has places.
template <typename T, int V>
__device__ void numbers_of_columns(
    const T* x, i64 outer, const Place<V>& at, Wide<T> (&top)[V], Wide<T> (&others)[V], Wide<T>* stats, Wide<T>* scratch) {
  typedef Wide<T> A;
  constexpr int ROWS = at_once<V>();
  A tops[V];
#pragma unroll
  for (int k = 0; k < V; k++) top[k] = -(A)INFINITY, others[k] = tops[k] = 0;
  for (i64 i = at.warp; i < at.n && at.inside; i += WARPS * ROWS) {
    Pack<T, V> xs[ROWS];
#pragma unroll
    for (int r = 0; r < ROWS; r++)
      if (i + r * WARPS < at.n) xs[r] = get<T, V>(x + at.row(outer, i + r * WARPS));
#pragma unroll
    for (int k = 0; k < V; k++) {
      A highest = top[k];
#pragma unroll
      for (int r = 0; r < ROWS; r++)
        if (i + r * WARPS < at.n) highest = Max::of(highest, widen(xs[r].e[k]));
      shift(top[k], others[k], tops[k], highest);
#pragma unroll
      for (int r = 0; r < ROWS; r++)
        if (i + r * WARPS < at.n) {
          const A e = exp(widen(xs[r].e[k]) - finite_or_0(highest));
          others[k] += e == 1 ? 0 : e;
          tops[k] += e == 1 ? 1 : 0;
        }
    }
  }
  A highest[V];
#pragma unroll
  for (int k = 0; k < V; k++) highest[k] = top[k];
  over_warps<Max>(highest, scratch);
#pragma unroll
  for (int k = 0; k < V; k++) {
    shift(top[k], others[k], tops[k], highest[k]);
    top[k] = finite_or_0(highest[k]);
  }
  over_warps<Sum>(others, scratch);
  over_warps<Sum>(tops, scratch);
#pragma unroll
  for (int k = 0; k < V; k++) {
    others[k] += tops[k] - 1;
    if (at.warp == 0 && at.inside) {
      stats[2 * (at.column(outer) + k)] = top[k];
      stats[2 * (at.column(outer) + k) + 1] = others[k];
    }
  }
}

// x, y: (outer, n, inner); stats: (outer, inner, 2).
template <typename T, int V, int WHAT>
__global__ void __launch_bounds__(32 * WARPS, 2) softmax_forward_of_columns(
    const T* x, T* y, Wide<T>* stats, i64 outers, i64 n, i64 inner) {
  typedef Wide<T> A;
  SHARED(A, scratch, 32 * WARPS * V);
  const Place<V> at(n, inner);
  for (i64 outer = blockIdx.y; outer < outers; outer += gridDim.y) {
    A top[V], others[V], scale[V];
    numbers_of_columns<T, V>(x, outer, at, top, others, stats, scratch);
#pragma unroll
    for (int k = 0; k < V; k++) scale[k] = WHAT == SOFTMAX ? 1 / (1 + others[k]) : log1p(others[k]);
#pragma unroll at_once<V>()
    for (i64 i = at.warp; i < n && at.inside; i += WARPS) {
      Pack<T, V> p = get<T, V>(x + at.row(outer, i));
#pragma unroll
      for (int k = 0; k < V; k++) {
        const A shift = widen(p.e[k]) - top[k];
        p.e[k] = narrow(WHAT == SOFTMAX ? exp(shift) * scale[k] : shift - scale[k], T());
      }
      put<T, V>(y + at.row(outer, i), p);
    }
  }
}

// x, g, dx: (outer, n, inner); stats: (outer, inner, 2).
template <typename T, int V, int WHAT>
__global__ void __launch_bounds__(32 * WARPS, 2) softmax_backward_of_columns(
    const T* x, const Wide<T>* stats, const T* g, T* dx, i64 outers, i64 n, i64 inner) {
  typedef Wide<T> A;
  typedef GSums<A> Sums;
  SHARED(Sums, scratch, 32 * WARPS * V);
  const Place<V> at(n, inner);
  for (i64 outer = blockIdx.y; outer < outers; outer += gridDim.y) {
    A top[V];
    TopShare<A> at_top[V];
    GSums<A> sums[V];
#pragma unroll
    for (int k = 0; k < V; k++) {
      top[k] = at.inside ? stats[2 * (at.column(outer) + k)] : (A)0;
      at_top[k] = TopShare<A>::of(at.inside ? stats[2 * (at.column(outer) + k) + 1] : (A)0);
      sums[k] = {0, 0};
    }
#pragma unroll at_once<V>()
    for (i64 i = at.warp; i < n && at.inside; i += WARPS) {
      Pack<T, V> p, d = get<T, V>(g + at.row(outer, i));
      if (WHAT == SOFTMAX) p = get<T, V>(x + at.row(outer, i));
#pragma unroll
      for (int k = 0; k < V; k++)
        add<WHAT>(sums[k], at_top[k], WHAT == SOFTMAX ? exp(widen(p.e[k]) - top[k]) * at_top[k].p : (A)0, widen(d.e[k]));
    }
    over_warps<GSum<WHAT>>(sums, scratch);
#pragma unroll
    for (int k = 0; k < V; k++)
      if (WHAT == LOG_SOFTMAX) sums[k].rest = sums[k].finite_rest();
#pragma unroll at_once<V>()
    for (i64 i = at.warp; i < n && at.inside; i += WARPS) {
      Pack<T, V> p = get<T, V>(x + at.row(outer, i)), d = get<T, V>(g + at.row(outer, i));
#pragma unroll
      for (int k = 0; k < V; k++) {
        const A p_of_k = exp(widen(p.e[k]) - top[k]) * at_top[k].p;
        p.e[k] = narrow(pull_softmax<WHAT>(at_top[k], sums[k], p_of_k, widen(d.e[k])), T());
      }
      put<T, V>(dx + at.row(outer, i), p);
    }
  }
}

// dx of some rows of the columns: (p - onehot) one.
template <typename T, int V>
__device__ void away_from(
    const i64* target, const T* x, T* dx, i64 outer, const Place<V>& at, const Wide<T> (&top)[V],
    const TopShare<Wide<T>> (&at_top)[V], const Wide<T> (&one)[V]) {
  typedef Wide<T> A;
  i64 hot[V];
#pragma unroll
  for (int k = 0; k < V; k++) hot[k] = at.inside ? target[at.column(outer) + k] : -1;
#pragma unroll at_once<V>()
  for (i64 i = at.warp; i < at.n && at.inside; i += WARPS) {
    Pack<T, V> p = get<T, V>(x + at.row(outer, i));
#pragma unroll
    for (int k = 0; k < V; k++) {
      const A e = exp(widen(p.e[k]) - top[k]) * at_top[k].p;
      p.e[k] = narrow((i == hot[k] ? -at_top[k].one_minus(e) : e) * one[k], T());
    }
    put<T, V>(dx + at.row(outer, i), p);
  }
}

// losses, target: (outer, inner); stats: (outer, inner, 2); x, dx: (outer, n, inner). See cross_entropy_forward in softmax.cu.
template <typename T, int V>
__global__ void __launch_bounds__(32 * WARPS, 2) cross_entropy_forward_of_columns(
    const T* x, const i64* target, Wide<T>* losses, Wide<T>* stats, int* bad, T* dx, double divisor, i64 outers, i64 n,
    i64 inner) {
  typedef Wide<T> A;
  SHARED(A, scratch, 32 * WARPS * V);
  const Place<V> at(n, inner);
  for (i64 outer = blockIdx.y; outer < outers; outer += gridDim.y) {
    A top[V], others[V], one[V];
    TopShare<A> at_top[V];
    numbers_of_columns<T, V>(x, outer, at, top, others, stats, scratch);
#pragma unroll
    for (int k = 0; k < V; k++) {
      if (at.warp == 0 && at.inside) {
        const i64 t = target[at.column(outer) + k];
        const bool is_class = 0 <= t && t < n;
        if (!is_class) atomicOr(bad, 1);
        losses[at.column(outer) + k] = is_class ? log1p(others[k]) - (widen(x[at.row(outer, t) + k]) - top[k]) : (A)NAN;
      }
      at_top[k] = TopShare<A>::of(others[k]);
      one[k] = 1 / (A)divisor;
    }
    if (dx) away_from<T, V>(target, x, dx, outer, at, top, at_top, one);
  }
}

// See cross_entropy_backward in softmax.cu. g: (outer, inner) with a stride of 1, or one number with a stride of 0.
template <typename T, int V>
__global__ void __launch_bounds__(32 * WARPS, 2) cross_entropy_backward_of_columns(
    const T* x, const i64* target, const Wide<T>* stats, const T* g, i64 g_stride, double divisor, T* dx, i64 ahead,
    i64 outers, i64 n, i64 inner) {
  typedef Wide<T> A;
  const Place<V> at(n, inner);
  for (i64 outer = blockIdx.y; outer < outers; outer += gridDim.y) {
    A top[V], one[V];
    TopShare<A> at_top[V];
    bool done = ahead;
#pragma unroll
    for (int k = 0; k < V; k++) {
      const i64 column = at.inside ? at.column(outer) + k : 0;
      top[k] = stats[2 * column];
      at_top[k] = TopShare<A>::of(stats[2 * column + 1]);
      one[k] = widen(g[column * g_stride]);
      done = done && one[k] == 1;
      one[k] /= (A)divisor;
    }
    if (!done) away_from<T, V>(target, x, dx, outer, at, top, at_top, one);
  }
}
