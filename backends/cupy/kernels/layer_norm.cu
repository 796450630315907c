// layer_norm over the rows of a matrix, one block to a row.

// y = (x - mean) rstd weight + bias. x, y: (rows, n); weight, bias: (n); stats: (rows, 2), the mean and rstd of each row.
template <typename T, int V, bool WHOLE>
__global__ void __launch_bounds__(MOST_THREADS, WHOLE ? blocks<T, V>(3) : 1) layer_norm_forward(
    const T* x, const T* weight, const T* bias, T* y, Wide<T>* stats, double eps, i64 rows, i64 n) {
  typedef Wide<T> A;
  SHARED(A, scratch, 64);
  Block<A> block = {scratch, 0};
  Chunk<T, V> c;
  const int width = Raw<T, V>::width();
  const A share = 1 / (A)n;
  for (i64 row = blockIdx.x; row < rows; row += gridDim.x) {
    const T* xs = x + row * n;
    A mean = 0, square = 0;
    OVER_CHUNKS(from, left) {
      c.load(xs + from, left, 0);
#pragma unroll
      for (int i = 0; i < c.E; i++) mean += c.e[i];
    }
    mean = block.template over<Sum>(mean) * share;
    OVER_CHUNKS(from, left) {
      if (!WHOLE) c.load(xs + from, left, 0);
#pragma unroll
      for (int i = 0; i < c.E; i++) {
        A centred = c.is_inside(i, left) ? c.e[i] - mean : (A)0;
        square += centred * centred;
      }
    }
    const A rstd = rsqrt(block.template over<Sum>(square) * share + (A)eps);
    if (threadIdx.x == 0) {
      stats[2 * row] = mean;
      stats[2 * row + 1] = rstd;
    }
    OVER_CHUNKS(from, left) {
      if (!WHOLE) c.load(xs + from, left, 0);
#pragma unroll
      for (int k = 0; k < c.E; k += V) {
        if (!c.is_inside(k, left)) continue;
        const Pack<T, V> w = get<T, V>(weight + from + c.index(k)), b = get<T, V>(bias + from + c.index(k));
#pragma unroll
        for (int l = 0; l < V; l++) c.e[k + l] = (c.e[k + l] - mean) * rstd * widen(w.e[l]) + widen(b.e[l]);
      }
      c.store(y + row * n + from, left);
    }
  }
}

// dx = rstd (g weight - mean(g weight) - xhat mean(g weight xhat)), and of each block its share of
// dweight = sum(g xhat) and dbias = sum(g) over the rows, in partial: (2, blocks, n).
//
// For rows that a block holds: while it works on one, the next is on its way, but for rows that are read element by element,
// which take the registers for their addresses.
template <typename T, int V>
__global__ void __launch_bounds__(MOST_THREADS, sizeof(T) == 2 ? blocks<T, V>(2) : 1) layer_norm_backward(
    const T* x, const T* weight, const Wide<T>* stats, const T* g, T* dx, Wide<T>* partial, i64 rows, i64 n) {
  typedef Wide<T> A;
  SHARED(A, scratch, 128);
  Block<A, 2> block = {scratch, 0};
  constexpr int E = Chunk<T, V>::E;
  const int width = n;
  const A share = 1 / (A)width;
  Raw<T, V> next_x, next_g, ws;
  Chunk<T, V> xhat, gw;
  A dweight[E] = {}, dbias[E] = {};
  ws.load(weight, width);
  const auto load = [&](i64 row) {
    next_x.load(x + row * n, width);
    next_g.load(g + row * n, width);
  };
  if (V > 1) load(blockIdx.x);
  for (i64 row = blockIdx.x; row < rows; row += gridDim.x) {
    const A mean = stats[2 * row], rstd = stats[2 * row + 1];
    if (V == 1) load(row);
    xhat.take(next_x, width, mean);
    gw.take(next_g, width, 0);
    if (V > 1 && row + gridDim.x < rows) load(row + gridDim.x);
    A sums[2] = {0, 0};  // of g weight xhat and of g weight
#pragma unroll
    for (int i = 0; i < E; i++) {
      const bool inside = xhat.is_inside(i, width);
      xhat.e[i] = inside ? (xhat.e[i] - mean) * rstd : (A)0;
      dweight[i] += gw.e[i] * xhat.e[i];
      dbias[i] += gw.e[i];
      gw.e[i] = inside ? gw.e[i] * widen(ws.p[i / V].e[i % V]) : (A)0;
      sums[0] += gw.e[i] * xhat.e[i];
      sums[1] += gw.e[i];
    }
    block.template over<Sum>(sums);
    const A along = sums[0] * share, plain = sums[1] * share;
#pragma unroll
    for (int i = 0; i < E; i++) gw.e[i] = rstd * (gw.e[i] - plain - xhat.e[i] * along);
    gw.store(dx + row * n, width);
  }
#pragma unroll
  for (int i = 0; i < E; i++)
    if (xhat.is_inside(i, width)) {
      partial[blockIdx.x * n + xhat.index(i)] = dweight[i];
      partial[((i64)gridDim.x + blockIdx.x) * n + xhat.index(i)] = dbias[i];
    }
}

// The same for longer rows, which are read twice; partial holds zeros on entry.
template <typename T, int V>
__global__ void __launch_bounds__(MOST_THREADS, 1) layer_norm_backward_of_long_rows(
    const T* x, const T* weight, const Wide<T>* stats, const T* g, T* dx, Wide<T>* partial, i64 rows, i64 n) {
  typedef Wide<T> A;
  SHARED(A, scratch, 128);
  Block<A, 2> block = {scratch, 0};
  constexpr int E = Chunk<T, V>::E;
  constexpr bool WHOLE = false;
  Chunk<T, V> c, d, w;
  const int width = Raw<T, V>::width();
  const A share = 1 / (A)n;
  A *dweights = partial + blockIdx.x * n, *dbiases = partial + ((i64)gridDim.x + blockIdx.x) * n;
  for (i64 row = blockIdx.x; row < rows; row += gridDim.x) {
    const T *xs = x + row * n, *gs = g + row * n;
    const A mean = stats[2 * row], rstd = stats[2 * row + 1];
    A sums[2] = {0, 0};
    OVER_CHUNKS(from, left) {
      c.load(xs + from, left, mean);
      d.load(gs + from, left, 0);
#pragma unroll
      for (int i = 0; i < E; i++) {
        if (!c.is_inside(i, left)) continue;
        const A xhat = (c.e[i] - mean) * rstd, gw = d.e[i] * widen(weight[from + c.index(i)]);
        sums[0] += gw * xhat;
        sums[1] += gw;
        dweights[from + c.index(i)] += d.e[i] * xhat;
        dbiases[from + c.index(i)] += d.e[i];
      }
    }
    block.template over<Sum>(sums);
    const A along = sums[0] * share, plain = sums[1] * share;
    OVER_CHUNKS(from, left) {
      c.load(xs + from, left, mean);
      d.load(gs + from, left, 0);
      w.load(weight + from, left, 0);
#pragma unroll
      for (int i = 0; i < E; i++) c.e[i] = rstd * (d.e[i] * w.e[i] - plain - (c.e[i] - mean) * rstd * along);
      c.store(dx + row * n + from, left);
    }
  }
}
