// Sums of a table over its rows and columns, in one pass over the memory: what broadcasting asks of a gradient.
//
// A block goes down a strip of the table that is `TILE` columns wide; each of its warps takes every WARPS-th row of it, and
// holds the sums of its columns in registers. What the tiles and strips give are partial sums, to be summed in their turn.

enum { WARPS = 8 };

template <typename T, int V> __device__ constexpr int tile() { return 32 * (V > 4 ? V : 4); }

// No activation: the table is g itself, or the product of g and x.
struct none {
  template <typename A> __device__ static A pull(A, A g) { return g; }
};
struct times {
  template <typename A> __device__ static A pull(A x, A g) { return x * g; }
};

// Of a table t(i, j), g(i, j) itself or, for an activation F, F'(x(i, j) + bias(j)) g(i, j), which is also written to dx:
//   by_row(i, tile) = sum_j t(i, j) b(j)      by_column(strip, j) = sum_i t(i, j) a(i)      plain(strip, j) = sum_i t(i, j)
// each unless its pointer is null; a and b are 1 where theirs are.
// g, x, dx: (batch, m, n); a: (m); b: (n); by_row: (batch, m, tiles); by_column, plain: (batch, strips, n).
// The grid is (tiles, strips, batch), of which the last two may be smaller than there are batches.
template <typename T, int V, typename F>
__global__ void __launch_bounds__(32 * WARPS, 2) sums_of_table(
    const T* g, const T* x, const T* bias, T* dx, const T* a, const T* b, Wide<T>* by_row, Wide<T>* by_column,
    Wide<T>* plain, i64 batch, i64 m, i64 n) {
  typedef Wide<T> A;
  constexpr int TILE = tile<T, V>(), E = TILE / 32;
  SHARED(A, scratch, WARPS * TILE);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const i64 first = (i64)blockIdx.x * TILE + lane * V, tiles = gridDim.x, strips = gridDim.y;
  const i64 height = (m + strips - 1) / strips, begin = blockIdx.y * height;
  const i64 end = begin + height < m ? begin + height : m;
  A bs[E], biases[E];
#pragma unroll
  for (int i = 0; i < E; i++) {
    i64 j = first + (i / V) * 32 * V + i % V;
    bs[i] = b && j < n ? widen(b[j]) : (A)1;
    biases[i] = bias && j < n ? widen(bias[j]) : (A)0;
  }
  for (i64 z = blockIdx.z; z < batch; z += gridDim.z) {
    A columns[E] = {}, plains[E] = {};
    for (i64 i = begin + warp; i < end; i += WARPS) {
      const i64 row = (z * m + i) * n;
      const A ai = a ? widen(a[i]) : (A)1;
      A total = 0;
#pragma unroll
      for (int k = 0; k < E; k += V) {
        i64 j = first + (k / V) * 32 * V;
        if (j >= n) continue;  // n is a multiple of V
        Pack<T, V> p = *(const Pack<T, V>*)(g + row + j), q;
        if (x) q = *(const Pack<T, V>*)(x + row + j);
#pragma unroll
        for (int l = 0; l < V; l++) {
          A t = widen(p.e[l]);
          if (x) p.e[l] = narrow(t = F::pull(widen(q.e[l]) + biases[k + l], t), T());
          total += t * bs[k + l];
          columns[k + l] += t * ai;
          plains[k + l] += t;
        }
        if (dx) *(Pack<T, V>*)(dx + row + j) = p;
      }
      if (by_row) {
        total = over_warp<Sum>(total);
        if (lane == 0) by_row[(z * m + i) * tiles + blockIdx.x] = total;
      }
    }
    A* outs[2] = {by_column, plain};
#pragma unroll
    for (int o = 0; o < 2; o++) {
      if (!outs[o]) continue;
      __syncthreads();  // scratch may still be read from the time before
#pragma unroll
      for (int k = 0; k < E; k++) scratch[warp * TILE + (k / V) * 32 * V + lane * V + k % V] = o ? plains[k] : columns[k];
      __syncthreads();
      for (int c = threadIdx.x; c < TILE; c += blockDim.x) {
        i64 j = (i64)blockIdx.x * TILE + c;
        A sum = 0;
        for (int w = 0; w < WARPS; w++) sum += scratch[w * TILE + c];
        if (j < n) outs[o][(z * strips + blockIdx.y) * n + j] = sum;
      }
    }
  }
}

// y = F(x + bias), for a bias of one row. x, y: (m, n).
template <typename T, int V, typename F>
__global__ void __launch_bounds__(256, 4) with_bias(const T* x, const T* bias, T* y, i64 m, i64 n) {
  i64 at = ((i64)blockIdx.x * blockDim.x + threadIdx.x) * V;
  if (at >= m * n) return;
  Pack<T, V> p = *(const Pack<T, V>*)(x + at), q = *(const Pack<T, V>*)(bias + at % n);  // n is a multiple of V
#pragma unroll
  for (int k = 0; k < V; k++) p.e[k] = narrow(F::value(widen(p.e[k]) + widen(q.e[k])), T());
  *(Pack<T, V>*)(y + at) = p;
}
