// Enough of CUDA for g++ to compile the kernels; `cuda_emulation.cpp` runs them. With CHECKED defined, every access to memory
// calls a function of `cuda_memory_checks.h` first.

#define EMULATED
#define __global__
#define __launch_bounds__(...)

#ifdef CHECKED
// Of a struct that a function takes or returns the compiler tells only where the function is part of its caller.
#define __device__ __attribute__((always_inline))
#define UNTOLD __attribute__((no_sanitize("thread", "alignment", "bounds-strict")))
#else
#define __device__
#define UNTOLD
#endif

#include <cmath>
#include <cstring>
#include <utility>

using namespace std;

namespace emulation {

struct Index { unsigned x, y, z; };
struct Indices { Index thread, block, threads, blocks; };
extern Indices indices;

void* shared(int line, size_t bytes, size_t alignment);
void wait_for_warp();
void wait_for_block();
void exchange(void* x, size_t bytes, unsigned thread);  // x for what another thread of the warp has
void atomic(const void* at, size_t bytes, void* code);  // about to be read and written as one, for that code
void* copy(void* to, const void* from, size_t bytes);

typedef void (*Call)(void (*fn)(), void** args);
int run(Call call, void (*fn)(), const unsigned* grid, unsigned threads, void** args, int reversed, unsigned long long last);

template <typename... A, size_t... I> UNTOLD void call(void (*fn)(A...), void** args, index_sequence<I...>) {
  fn(*(A*)args[I]...);
}

template <typename... A>
int launch(void (*fn)(A...), const unsigned* grid, unsigned threads, void** args, int reversed, unsigned long long last) {
  Call with = [](void (*fn)(), void** args) { call((void (*)(A...))fn, args, index_sequence_for<A...>()); };
  return run(with, (void (*)())fn, grid, threads, args, reversed, last);
}

template <typename T> struct Same { typedef T type; };

}  // namespace emulation

#ifdef CHECKED
#define memcpy emulation::copy
#endif

#define threadIdx emulation::indices.thread
#define blockIdx emulation::indices.block
#define blockDim emulation::indices.threads
#define gridDim emulation::indices.blocks

#define SHARED(type, name, count) \
  type* name = (type*)emulation::shared(__LINE__, sizeof(type) * (count), alignof(type))

inline void __syncthreads() { emulation::wait_for_block(); }
inline void __syncwarp(unsigned = 0xffffffff) { emulation::wait_for_warp(); }

template <typename T> T __shfl_xor_sync(unsigned, T x, int lane) {
  emulation::exchange(&x, sizeof(T), threadIdx.x ^ lane);
  return x;
}

template <typename T> UNTOLD T atomicAdd(T* p, typename emulation::Same<T>::type x) {
  emulation::atomic(p, sizeof(T), __builtin_return_address(0));
  T before = *p;
  *p = before + x;
  return before;
}
template <typename T> UNTOLD T atomicOr(T* p, typename emulation::Same<T>::type x) {
  emulation::atomic(p, sizeof(T), __builtin_return_address(0));
  T before = *p;
  *p = before | x;
  return before;
}

inline float from_bits(unsigned x) {
  float y;
  memcpy(&y, &x, 4);
  return y;
}
inline unsigned to_bits(float x) {
  unsigned y;
  memcpy(&y, &x, 4);
  return y;
}
