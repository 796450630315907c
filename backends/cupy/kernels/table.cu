// Sums of a table over its rows and columns, in one pass over the memory: what broadcasting asks of a gradient.
//
// A block goes down a strip of the table that is a `tile` of columns wide; each of its warps takes every WARPS-th row of it, a
// few at once, and holds the sums of its columns in registers. What the tiles and strips give are partial sums, to be summed.

enum { WARPS = 8 };

template <typename T, int V> __device__ constexpr int tile() { return 32 * (V > 4 ? V : 4); }

// What a table is made of: g itself, the product of g and x, or for an activation F (functions.h) its pullback of g at x + bias.
struct none {
  enum { READS_X = 0, WRITES_DX = 0 };
  template <typename A> __device__ static A pull(A, A g) { return g; }
};
struct times {
  enum { READS_X = 1, WRITES_DX = 0 };
  template <typename A> __device__ static A pull(A x, A g) { return x * g; }
};
template <typename F> struct activated : F {
  enum { READS_X = 1, WRITES_DX = 1 };
};

// ROWS rows of a tile, or fewer, every WARPS-th, as one thread has them: packs of V columns that lie side by side over a warp.
template <typename T, int V, typename F, int ROWS> struct Strip {
  static constexpr int E = tile<T, V>() / 32;
  Pack<T, V> g[ROWS][E / V], x[ROWS][E / V];

  __device__ static i64 column(int i) { return (i64)blockIdx.x * tile<T, V>() + (i / V * 32 + threadIdx.x % 32) * V + i % V; }

  __device__ void load(const T* gs, const T* xs, i64 rows, i64 n) {
#pragma unroll
    for (int r = 0; r < ROWS; r++)
#pragma unroll
      for (int k = 0; k < E / V; k++)
        if (r * WARPS < rows && column(k * V) < n) {  // n is a multiple of V
          g[r][k] = get<T, V>(gs + r * WARPS * n + column(k * V));
          if (F::READS_X) x[r][k] = get<T, V>(xs + r * WARPS * n + column(k * V));
        }
  }
};

// Of the table t(i, j):
//   by_row(i, tile) = sum_j t(i, j) b(j)      by_column(strip, j) = sum_i t(i, j) a(i)      plain(strip, j) = sum_i t(i, j)
// each unless its pointer is null; a and b are 1 where theirs are. dx gets the table where F says so.
// g, x, dx: (batch, m, n); a: (m); b, bias: (n); by_row: (batch, m, tiles); by_column, plain: (batch, strips, n).
// The grid is (tiles, strips, batch), of which the last two may be smaller than there are batches.
template <typename T, int V, typename F>
__global__ void __launch_bounds__(32 * WARPS, sizeof(T) == 8 ? 1 : 2) sums_of_table(
    const T* g, const T* x, const T* bias, T* dx, const T* a, const T* b, Wide<T>* by_row, Wide<T>* by_column,
    Wide<T>* plain, i64 batch, i64 m, i64 n) {
  typedef Wide<T> A;
  constexpr int TILE = tile<T, V>(), E = TILE / 32, ROWS = F::READS_X ? 2 : 4;
  SHARED(A, scratch, WARPS * TILE);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const i64 tiles = gridDim.x, strips = gridDim.y, height = (m + strips - 1) / strips, begin = blockIdx.y * height;
  const i64 end = begin + height < m ? begin + height : m;
  Strip<T, V, F, ROWS> strip;
  A bs[E], biases[E];
#pragma unroll
  for (int i = 0; i < E; i++) {
    const i64 j = strip.column(i);
    bs[i] = b && j < n ? widen(b[j]) : (A)1;
    biases[i] = bias && j < n ? widen(bias[j]) : (A)0;
  }
  for (i64 z = blockIdx.z; z < batch; z += gridDim.z) {
    A columns[E] = {}, plains[E] = {};
    for (i64 i = begin + warp; i < end; i += ROWS * WARPS) {
      strip.load(g + (z * m + i) * n, x + (z * m + i) * n, end - i, n);
#pragma unroll
      for (int r = 0; r < ROWS; r++) {
        if (i + r * WARPS >= end) continue;
        const i64 row = z * m + i + r * WARPS;
        const A ai = a ? widen(a[i + r * WARPS]) : (A)1;
        A total = 0;
#pragma unroll
        for (int k = 0; k < E; k += V) {
          if (strip.column(k) >= n) continue;
          Pack<T, V> d;
#pragma unroll
          for (int l = 0; l < V; l++) {
            const A gt = widen(strip.g[r][k / V].e[l]);
            const A t = F::READS_X ? F::pull(widen(strip.x[r][k / V].e[l]) + biases[k + l], gt) : gt;
            if (F::WRITES_DX) d.e[l] = narrow(t, T());
            total += t * bs[k + l];
            columns[k + l] += t * ai;
            plains[k + l] += t;
          }
          if (F::WRITES_DX) put<T, V>(dx + row * n + strip.column(k), d);
        }
        if (by_row) {
          total = over_warp<Sum>(total);
          if (lane == 0) by_row[row * tiles + blockIdx.x] = total;
        }
      }
    }
    A* outs[2] = {by_column, plain};
#pragma unroll
    for (int o = 0; o < 2; o++) {
      if (!outs[o]) continue;
      __syncthreads();  // scratch may still be read from the time before
#pragma unroll
      for (int k = 0; k < E; k++) scratch[warp * TILE + (k / V * 32 + lane) * V + k % V] = o ? plains[k] : columns[k];
      __syncthreads();
      for (int c = threadIdx.x; c < TILE; c += blockDim.x) {
        const i64 j = (i64)blockIdx.x * TILE + c;
        A sum = 0;
        for (int w = 0; w < WARPS; w++) sum += scratch[w * TILE + c];
        if (j < n) outs[o][(z * strips + blockIdx.y) * n + j] = sum;
      }
    }
  }
}
