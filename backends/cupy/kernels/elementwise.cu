// Functions of one argument and their pullbacks, each in one pass over the memory.

template <typename T, int V, typename F>
__global__ void __launch_bounds__(256, 4) value_of(const T* x, T* y, i64 n) {
  i64 at = ((i64)blockIdx.x * blockDim.x + threadIdx.x) * V;
  if (at + V <= n) {
    Pack<T, V> a = get<T, V>(x + at);
#pragma unroll
    for (int k = 0; k < V; k++) a.e[k] = narrow(F::value(widen(a.e[k])), T());
    put<T, V>(y + at, a);
  } else if (V > 1) {
#pragma unroll 1
    for (; at < n; at++) y[at] = narrow(F::value(widen(x[at])), T());
  }
}

template <typename T, int V, typename F>
__global__ void __launch_bounds__(256, 4) pull_of(const T* x, const T* g, T* dx, i64 n) {
  i64 at = ((i64)blockIdx.x * blockDim.x + threadIdx.x) * V;
  if (at + V <= n) {
    Pack<T, V> a = get<T, V>(x + at), b = get<T, V>(g + at);
#pragma unroll
    for (int k = 0; k < V; k++) a.e[k] = narrow(F::pull(widen(a.e[k]), widen(b.e[k])), T());
    put<T, V>(dx + at, a);
  } else if (V > 1) {
#pragma unroll 1
    for (; at < n; at++) dx[at] = narrow(F::pull(widen(x[at]), widen(g[at])), T());
  }
}
