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
#if __CUDA_ARCH__ >= 800
  bfloat16_t y;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y.bits) : "f"(x));
#else
  unsigned bits = to_bits(x);
  bits = x == x ? bits + 0x7fff + ((bits >> 16) & 1) : 0x7fc00000;
  bfloat16_t y = {(unsigned short)(bits >> 16)};
#endif
  return y;
}

// x / y to within 2 units in the last place, for a y of 1 to 4.
__device__ inline double ratio(double x, double y) { return x / y; }
#ifndef EMULATED
__device__ inline float ratio(float x, float y) { return __fdividef(x, y); }
#else
inline float ratio(float x, float y) { return x / y; }
template <typename A> A rsqrt(A x) { return 1 / sqrt(x); }
#endif

// V elements that are loaded and stored at once.
template <typename T, int V> struct alignas(sizeof(T) * V) Pack { T e[V]; };

template <typename T, int V> __device__ Pack<T, V> get(const T* from) { return *(const Pack<T, V>*)from; }
template <typename T, int V> __device__ void put(T* to, const Pack<T, V>& pack) {
#ifndef EMULATED
  if constexpr (sizeof(pack) == 16) {  // said outright, for in some kernels the compiler stores the elements one by one
    unsigned w[4];
    memcpy(w, &pack, sizeof w);
    asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};"
                 :: "l"(__cvta_generic_to_global(to)), "r"(w[0]), "r"(w[1]), "r"(w[2]), "r"(w[3]));
    return;
  }
#endif
  *(Pack<T, V>*)to = pack;
}

// How many elements of a row each thread holds in registers, and how many threads a block has at the most.
template <typename T, int V> __device__ constexpr int held() { return sizeof(T) == 8 || V == 1 ? 4 : 8; }
enum { MOST_THREADS = 512 };

// How many blocks a multiprocessor is to hold of a kernel that holds rows: as many as there are registers for.
template <typename T, int V> __device__ constexpr int blocks(int narrow) {
  return V == 1 || sizeof(T) == 8 ? 1 : sizeof(T) == 4 ? 2 : narrow;
}

// The elements of a row that one thread holds, as they come from memory: packs that lie side by side over the threads of a
// block, so that a block holds `width` elements. Those beyond the end of the row are not read and hold anything.
template <typename T, int V> struct Raw {
  static constexpr int E = held<T, V>();
  Pack<T, V> p[E / V];

  __device__ static int width() { return blockDim.x * E; }
  __device__ static int index(int i) { return ((i / V) * blockDim.x + threadIdx.x) * V + i % V; }

  __device__ void load(const T* row, int n) {  // n, what is left of the row, is a multiple of V
#pragma unroll
    for (int k = 0; k < E / V; k++)
      if (index(k * V) < n) p[k] = get<T, V>(row + index(k * V));
  }
};

// The same, widened.
template <typename T, int V> struct Chunk {
  static constexpr int E = held<T, V>();
  Wide<T> e[E];

  __device__ static int index(int i) { return Raw<T, V>::index(i); }
  __device__ static bool is_inside(int i, int n) { return index(i / V * V) < n; }

  __device__ void take(const Raw<T, V>& raw, int n, Wide<T> beyond) {
#pragma unroll
    for (int i = 0; i < E; i++) e[i] = is_inside(i, n) ? widen(raw.p[i / V].e[i % V]) : beyond;
  }
  __device__ void load(const T* row, int n, Wide<T> beyond) {
    Raw<T, V> raw;
    raw.load(row, n);
    take(raw, n, beyond);
  }
  __device__ void store(T* row, int n) const {
#pragma unroll
    for (int k = 0; k < E / V; k++)
      if (index(k * V) < n) {
        Pack<T, V> pack;
#pragma unroll
        for (int l = 0; l < V; l++) pack.e[l] = narrow(e[k * V + l], T());
        put<T, V>(row + index(k * V), pack);
      }
  }
};

// Over the chunks of a row of n elements: `from` is where each starts, and `left` how many it has. Where a block holds the row
// WHOLE there is one, and what was loaded once need not be loaded again.
#define OVER_CHUNKS(from, left)                                                                      \
  for (i64 from = 0, left = WHOLE || n < width ? n : width; WHOLE ? from == 0 : from < n;              \
       from += WHOLE ? 1 : width, left = n - from < width ? n - from : width)

struct Sum {
  template <typename A> __device__ static A of(A x, A y) { return x + y; }
  template <typename A> __device__ static A nothing() { return 0; }
};
struct Max {
  template <typename A> __device__ static A of(A x, A y) { return x > y ? x : y; }
  template <typename A> __device__ static A nothing() { return -(A)INFINITY; }
};

// What another thread of the warp has; struct types have their own.
template <typename A> __device__ A from_lane(A x, int lane) { return __shfl_xor_sync(0xffffffff, x, lane); }

// The sum (or maximum) of x over a warp; every thread gets it.
template <typename How, typename A> __device__ A over_warp(A x) {
#pragma unroll
  for (int lane = 16; lane; lane /= 2) x = How::of(x, from_lane(x, lane));
  return x;
}

// The same over a block of full warps, of up to K numbers at once and with one barrier: the scratch of one time is written to
// again two times later, when every thread has passed the barrier of the time between.
template <typename A, int K = 1> struct Block {
  A* scratch;  // 2 * K * 32 elements
  int turn;

  template <typename How, int N> __device__ void over(A (&x)[N]) {
    static_assert(N <= K, "there is scratch for K numbers");
    A* mine = scratch + turn * K * 32;
    turn = !turn;
#pragma unroll
    for (int k = 0; k < N; k++) {
      x[k] = over_warp<How>(x[k]);
      if (threadIdx.x % 32 == 0) mine[k * 32 + threadIdx.x / 32] = x[k];
    }
    __syncthreads();
#pragma unroll
    for (int k = 0; k < N; k++) {
      x[k] = threadIdx.x % 32 < blockDim.x / 32 ? mine[k * 32 + threadIdx.x % 32] : How::template nothing<A>();
      x[k] = over_warp<How>(x[k]);
    }
  }
  template <typename How> __device__ A over(A x) {
    A xs[1] = {x};
    over<How>(xs);
    return xs[0];
  }
};
