// The sums of what table.cu and layer_norm.cu leave in parts, rounded to what they are sums for.

// out(z, j) = sum_k partial(z, k, j). partial: (batch, strips, n); out: (batch, n). Each warp of a block takes some strips of
// 32 columns.
template <typename T>
__global__ void __launch_bounds__(1024, 1) sum_over_strips(const Wide<T>* partial, T* out, i64 batch, i64 strips, i64 n) {
  typedef Wide<T> A;
  SHARED(A, scratch, 1024);
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
  const i64 j = (i64)blockIdx.x * 32 + lane;
  for (i64 z = blockIdx.y; z < batch; z += gridDim.y) {
    A sum = 0;
    if (j < n) {
#pragma unroll 4
      for (i64 k = warp; k < strips; k += warps) sum += partial[(z * strips + k) * n + j];
    }
    __syncthreads();  // scratch may still be read from the time before
    scratch[threadIdx.x] = sum;
    __syncthreads();
    if (warp == 0 && j < n) {
      for (int w = 1; w < warps; w++) sum += scratch[w * 32 + lane];
      out[z * n + j] = narrow(sum, T());
    }
  }
}

// out(i) = sum_k partial(i, k). partial: (rows, tiles); out: (rows). A warp to a row.
template <typename T>
__global__ void __launch_bounds__(256, 4) sum_over_tiles(const Wide<T>* partial, T* out, i64 rows, i64 tiles) {
  typedef Wide<T> A;
  for (i64 i = ((i64)blockIdx.x * blockDim.x + threadIdx.x) / 32; i < rows; i += (i64)gridDim.x * blockDim.x / 32) {
    A sum = 0;
#pragma unroll 4
    for (i64 k = threadIdx.x % 32; k < tiles; k += 32) sum += partial[i * tiles + k];
    sum = over_warp<Sum>(sum);
    if (threadIdx.x % 32 == 0) out[i] = narrow(sum, T());
  }
}

// out = sum(x) / divisor, by one block. x: (n).
template <typename T>
__global__ void __launch_bounds__(1024, 1) sum_of_all(const Wide<T>* x, T* out, i64 n, double divisor) {
  typedef Wide<T> A;
  SHARED(A, scratch, 64);
  Block<A> block = {scratch, 0};
  A sum = 0;
#pragma unroll 4
  for (i64 i = threadIdx.x; i < n; i += blockDim.x) sum += x[i];
  sum = block.template over<Sum>(sum);
  if (threadIdx.x == 0) *out = narrow(sum / (A)divisor, T());
}
