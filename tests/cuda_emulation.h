// Enough of CUDA for g++ to run the kernels: one fiber for each thread of a block, and one block after the other.
//
// A warp runs as far as it can before the next one starts, from the first to the last or, when told so, from the last to the
// first: where a barrier is missing, one of the two orders reads what is not there yet, or no longer. Shared memory is full of
// NaN when a block starts. It models no races within a warp and no caches.

#define EMULATED
#define __device__
#define __global__
#define __launch_bounds__(...)

#include <ucontext.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <utility>
#include <vector>

using namespace std;

struct Index { unsigned x, y, z; };
static Index threadIdx, blockIdx, blockDim, gridDim;

namespace emulation {

enum State { RUNS, AT_WARP, AT_BLOCK, ENDED };
struct Fiber {
  ucontext_t context;
  State state;
  unsigned shuffles;
};
static const size_t STACK = 1 << 16;
static vector<Fiber> fibers(1024);
static vector<char> stacks(1024 * STACK);
static ucontext_t scheduler;
static function<void()> kernel;
static unsigned current;
static unsigned long long slots[2][1024];
static map<int, pair<void*, size_t>> memory;  // shared, by the line that declares it

static void* shared(int line, size_t bytes) {
  auto& block = memory[line];
  if (block.second < bytes) block = {realloc(block.first, bytes), bytes}, memset(block.first, 0xff, bytes);
  return block.first;
}

static void wait(State at) {
  fibers[current].state = at;
  swapcontext(&fibers[current].context, &scheduler);
}

static void run() {
  kernel();
  fibers[current].state = ENDED;
}

static bool all(unsigned from, unsigned to, State state) {
  for (unsigned t = from; t < to; t++)
    if (fibers[t].state != state) return false;
  return true;
}

static bool released(unsigned from, unsigned to, State state) {
  if (!all(from, to, state)) return false;
  for (unsigned t = from; t < to; t++) fibers[t].state = RUNS;
  return true;
}

// Run a warp until all its threads wait for the rest of the block, or for ever.
static void warp(unsigned first, bool reversed) {
  do {
    for (unsigned i = 0; i < 32; i++) {
      current = first + (reversed ? 31 - i : i);
      if (fibers[current].state != RUNS) continue;
      threadIdx.x = current;
      swapcontext(&scheduler, &fibers[current].context);
    }
  } while (released(first, first + 32, AT_WARP));
}

// Whether every thread of a block came to its end; not where some wait for others that never come.
static bool block(bool reversed) {
  const unsigned threads = blockDim.x;
  for (auto& m : memory) memset(m.second.first, 0xff, m.second.second);
  for (unsigned t = 0; t < threads; t++) {
    Fiber& fiber = fibers[t];
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = stacks.data() + t * STACK;
    fiber.context.uc_stack.ss_size = STACK;
    fiber.context.uc_link = &scheduler;
    fiber.state = RUNS;
    fiber.shuffles = 0;
    makecontext(&fiber.context, run, 0);
  }
  while (!all(0, threads, ENDED)) {
    for (unsigned w = 0; w < threads / 32; w++) warp(32 * (reversed ? threads / 32 - 1 - w : w), reversed);
    if (!released(0, threads, AT_BLOCK) && !all(0, threads, ENDED)) return false;
  }
  return true;
}

template <typename... A, size_t... I> void call(void (*fn)(A...), void** args, index_sequence<I...>) {
  fn(*(A*)args[I]...);
}

// 0, or 1 where the threads of a block wait for each other for ever.
template <typename... A>
int launch(void (*fn)(A...), const unsigned* grid, unsigned threads, void** args, int reversed) {
  kernel = [=] { call(fn, args, index_sequence_for<A...>()); };
  gridDim = {grid[0], grid[1], grid[2]};
  blockDim = {threads, 1, 1};
  const unsigned long long blocks = 1ull * grid[0] * grid[1] * grid[2];
  for (unsigned long long i = 0; i < blocks; i++) {
    const unsigned long long b = reversed ? blocks - 1 - i : i;
    blockIdx = {(unsigned)(b % grid[0]), (unsigned)(b / grid[0] % grid[1]), (unsigned)(b / grid[0] / grid[1])};
    if (!block(reversed)) return 1;
  }
  return 0;
}

}  // namespace emulation

#define SHARED(type, name, count) type* name = (type*)emulation::shared(__LINE__, sizeof(type) * (count))

static void __syncthreads() { emulation::wait(emulation::AT_BLOCK); }

static int atomicOr(int* at, int bits) {
  int before = *at;
  *at |= bits;
  return before;
}

template <typename T> T __shfl_xor_sync(unsigned, T x, int lane) {
  unsigned thread = threadIdx.x;
  auto& slots = emulation::slots[emulation::fibers[thread].shuffles++ % 2];
  memcpy(&slots[thread], &x, sizeof(T));
  emulation::wait(emulation::AT_WARP);
  memcpy(&x, &slots[thread ^ lane], sizeof(T));
  return x;
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
