// Functions of two arguments and their pullbacks, each in one pass over the memory.

// An argument that is a table of rows of n elements, or is broadcast to one: where its element (i, j) is.
struct Place { i64 row, column; };  // what is added to an index for each; column is 1 or 0

template <typename T, int V> __device__ Pack<T, V> at(const T* x, Place place, i64 i, i64 j) {
  x += i * place.row;
  if (place.column) return get<T, V>(x + j);
  Pack<T, V> p;
#pragma unroll
  for (int k = 0; k < V; k++) p.e[k] = *x;
  return p;
}

// z = F(x, y): `size` elements in rows of n, which is a multiple of V or is size itself.
template <typename T, int V, typename F>
__global__ void __launch_bounds__(256, 4) value_of_two(
    const T* x, const T* y, T* z, i64 x_row, i64 x_column, i64 y_row, i64 y_column, i64 size, i64 n) {
  const Place px = {x_row, x_column}, py = {y_row, y_column};
  i64 first = ((i64)blockIdx.x * blockDim.x + threadIdx.x) * V, i = 0;
  if (n < size) i = size >> 32 ? first / n : (unsigned)first / (unsigned)n;
  const i64 j = first - i * n;
  if (first + V <= size) {
    Pack<T, V> a = at<T, V>(x, px, i, j), b = at<T, V>(y, py, i, j);
#pragma unroll
    for (int k = 0; k < V; k++) a.e[k] = narrow(F::value(widen(a.e[k]), widen(b.e[k])), T());
    put<T, V>(z + first, a);
  } else if (V > 1) {  // one row, then
#pragma unroll 1
    for (; first < size; first++)
      z[first] = narrow(F::value(widen(x[first * x_column]), widen(y[first * y_column])), T());
  }
}

// What F pulls g back to, for its first argument or the second. x, y, g, d: (n).
template <typename T, int V, typename F, bool FIRST>
__global__ void __launch_bounds__(256, 4) pull_of_two(const T* x, const T* y, const T* g, T* d, i64 n) {
  const auto pull = [](T x, T y, T g) {
    return narrow(FIRST ? F::pull_first(widen(x), widen(y), widen(g)) : F::pull_second(widen(x), widen(y), widen(g)), T());
  };
  i64 at = ((i64)blockIdx.x * blockDim.x + threadIdx.x) * V;
  if (at + V <= n) {
    Pack<T, V> a = get<T, V>(x + at), b = get<T, V>(y + at), c = get<T, V>(g + at);
#pragma unroll
    for (int k = 0; k < V; k++) a.e[k] = pull(a.e[k], b.e[k], c.e[k]);
    put<T, V>(d + at, a);
  } else if (V > 1) {
#pragma unroll 1
    for (; at < n; at++) d[at] = pull(x[at], y[at], g[at]);
  }
}
