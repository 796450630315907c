// What the kernels share: 16-bit floats, packs of 16 bytes, chunks of a row, sums over a block.
//
// Everything is computed in `Wide<T>`: float32 for float32 and the 16-bit floats, float64 for float64.

typedef long long i64;

struct half_t { unsigned short bits; };
struct bfloat16_t { unsigned short bits; };

template <typename T> struct WideOf { typedef float type; };
template <> struct WideOf<double> { typedef double type; };
template <typename T> using Wide = typename WideOf<T>::type;

#ifndef INFINITY
#define INFINITY __int_as_float(0x7f800000)
#define NAN __int_as_float(0x7fffffff)
#endif

#ifndef EMULATED
#define SHARED(type, name, count) __shared__ type name[count]

__device__ inline float widen(half_t x) {
  float y;
  asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x.bits));
  return y;
}
__device__ inline half_t narrow(float x, half_t) {
  half_t y;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
  return y;
}
__device__ inline float from_bits(unsigned x) { return __uint_as_float(x); }
__device__ inline unsigned to_bits(float x) { return __float_as_uint(x); }
#else
inline float widen(half_t x) {
  _Float16 y;
  memcpy(&y, &x, 2);
  return (float)y;
}
inline half_t narrow(float x, half_t) {
  _Float16 rounded = (_Float16)x;
  half_t y;
  memcpy(&y, &rounded, 2);
  return y;
}
#endif

__device__ inline float widen(bfloat16_t x) { return from_bits((unsigned)x.bits << 16); }
__device__ inline float widen(float x) { return x; }
__device__ inline double widen(double x) { return x; }
__device__ inline float narrow(float x, float) { return x; }
__device__ inline double narrow(double x, double) { return x; }
__device__ inline bfloat16_t narrow(float x, bfloat16_t) {  // to the nearest, ties to even
  unsigned bits = to_bits(x);
  bits = x == x ? bits + 0x7fff + ((bits >> 16) & 1) : 0x7fc00000;
  bfloat16_t y = {(unsigned short)(bits >> 16)};
  return y;
}

// V elements that are loaded and stored at once.
template <typename T, int V> struct alignas(sizeof(T) * V) Pack { T e[V]; };

// How many elements of a row each thread holds in registers.
template <typename T> __device__ constexpr int held() { return sizeof(T) == 8 ? 4 : 8; }

// The elements of a row that one thread holds of the chunk that starts at `from`, in packs that lie side by side over
// the threads of a block.
template <typename T, int V> struct Chunk {
  static constexpr int E = held<T>();
  Wide<T> e[E];

  __device__ static i64 width() { return (i64)blockDim.x * E; }
  __device__ static i64 index(i64 from, int i) { return from + ((i64)(i / V) * blockDim.x + threadIdx.x) * V + i % V; }

  __device__ void load(const T* row, i64 from, i64 n, Wide<T> beyond) {
#pragma unroll
    for (int i = 0; i < E; i += V) {
      i64 at = index(from, i);
      if (at < n) {  // n is a multiple of V
        Pack<T, V> pack = *(const Pack<T, V>*)(row + at);
#pragma unroll
        for (int k = 0; k < V; k++) e[i + k] = widen(pack.e[k]);
      } else {
#pragma unroll
        for (int k = 0; k < V; k++) e[i + k] = beyond;
      }
    }
  }

  __device__ void store(T* row, i64 from, i64 n) const {
#pragma unroll
    for (int i = 0; i < E; i += V) {
      i64 at = index(from, i);
      if (at < n) {
        Pack<T, V> pack;
#pragma unroll
        for (int k = 0; k < V; k++) pack.e[k] = narrow(e[i + k], T());
        *(Pack<T, V>*)(row + at) = pack;
      }
    }
  }
};

struct Sum {
  template <typename A> __device__ static A of(A x, A y) { return x + y; }
  template <typename A> __device__ static A nothing() { return 0; }
};
struct Max {
  template <typename A> __device__ static A of(A x, A y) { return x > y ? x : y; }
  template <typename A> __device__ static A nothing() { return -(A)INFINITY; }
};

// The sum (or maximum) of x over a warp, or over a block of full warps; every thread gets it. scratch: 32 elements.
template <typename How, typename A> __device__ A over_warp(A x) {
#pragma unroll
  for (int lane = 16; lane; lane /= 2) x = How::of(x, __shfl_xor_sync(0xffffffff, x, lane));
  return x;
}
template <typename How, typename A> __device__ A over_block(A x, A* scratch) {
  x = over_warp<How>(x);
  __syncthreads();  // scratch may still be read from the time before
  if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = x;
  __syncthreads();
  x = threadIdx.x % 32 < blockDim.x / 32 ? scratch[threadIdx.x % 32] : How::template nothing<A>();
  return over_warp<How>(x);
}
