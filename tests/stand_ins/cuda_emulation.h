// Enough of CUDA for g++ to compile the kernels; `cuda_emulation.cpp` runs them. With CHECKED defined, every
// access to memory calls a function of `cuda_memory_checks.h` first.

#define EMULATED
#define __global__
#define __launch_bounds__(...)

#ifdef CHECKED
// The compiler instruments accesses to a struct that a function takes or returns only where the function is
// inlined.
#define __device__ __attribute__((always_inline))
#define NOT_INSTRUMENTED __attribute__((no_sanitize("thread", "alignment", "bounds-strict")))
#else
#define __device__
#define NOT_INSTRUMENTED
#endif

#include <cmath>
#include <cstring>
#include <utility>

using namespace std;

namespace emulation {

struct Index { unsigned x, y, z; };
struct Indices { Index thread, block, threads, blocks; };
extern Indices indices;

void* declare_shared(int line, size_t bytes, size_t alignment);
void wait_for_warp();
void wait_for_block();
// Exchange x for what another thread of the warp has.
void exchange(void* x, size_t bytes, unsigned thread);
// Check an atomic operation before it is done by the machine code at `code`.
void check_atomic(const void* address, size_t bytes, void* code);
void* checked_memcpy(void* to, const void* from, size_t bytes);

typedef void (*KernelCaller)(void (*fn)(), void** args);
int run(
    KernelCaller call, void (*fn)(), const unsigned* grid, unsigned threads, void** args, int reversed,
    unsigned long long last_block_count);

template <typename... A, size_t... I>
NOT_INSTRUMENTED void call(void (*fn)(A...), void** args, index_sequence<I...>) {
  fn(*(A*)args[I]...);
}

template <typename... A>
int launch(
    void (*fn)(A...), const unsigned* grid, unsigned threads, void** args, int reversed,
    unsigned long long last_block_count) {
  KernelCaller caller = [](void (*fn)(), void** args) {
    call((void (*)(A...))fn, args, index_sequence_for<A...>());
  };
  return run(caller, (void (*)())fn, grid, threads, args, reversed, last_block_count);
}

template <typename T> struct TypeIdentity { typedef T type; };

}  // namespace emulation

#ifdef CHECKED
#define memcpy emulation::checked_memcpy
#endif

#define threadIdx emulation::indices.thread
#define blockIdx emulation::indices.block
#define blockDim emulation::indices.threads
#define gridDim emulation::indices.blocks

#define SHARED(type, name, count) \
  type* name = (type*)emulation::declare_shared(__LINE__, sizeof(type) * (count), alignof(type))

inline void __syncthreads() { emulation::wait_for_block(); }
inline void __syncwarp(unsigned = 0xffffffff) { emulation::wait_for_warp(); }

template <typename T> T __shfl_xor_sync(unsigned, T x, int lane) {
  emulation::exchange(&x, sizeof(T), threadIdx.x ^ lane);
  return x;
}

template <typename T> NOT_INSTRUMENTED T atomicAdd(T* p, typename emulation::TypeIdentity<T>::type x) {
  emulation::check_atomic(p, sizeof(T), __builtin_return_address(0));
  T before = *p;
  *p = before + x;
  return before;
}
template <typename T> NOT_INSTRUMENTED T atomicOr(T* p, typename emulation::TypeIdentity<T>::type x) {
  emulation::check_atomic(p, sizeof(T), __builtin_return_address(0));
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
