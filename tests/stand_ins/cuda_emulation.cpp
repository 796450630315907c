// Runs the kernels that were compiled with `cuda_emulation.h`: one fiber for each thread of a block, one block after the other.
//
// A warp runs as far as it can before the next one starts, from the first to the last or, when told so, from the last to the
// first: where a barrier is missing, one of the two orders reads what is not there yet, or no longer. Shared memory is full of
// NaN when a block starts. Accesses that nothing orders, within a warp too, are found by `cuda_memory_checks.h`. There are no caches.

#include "cuda_emulation.h"

#include <dlfcn.h>
#include <ucontext.h>

#include <cstdint>
#include <cstdlib>
#include <unordered_map>
#include <vector>

namespace emulation {

Indices indices;

enum State { RUNS, AT_WARP, AT_BLOCK, ENDED };
struct Fiber {
  ucontext_t context;
  State state;
  unsigned exchanges;
};
static const size_t STACK = 1 << 16;
static vector<Fiber> fibers(1024);
static vector<char> stacks(1024 * STACK);
static ucontext_t scheduler;
static unsigned current;
static unsigned long long slots[2][1024];
static bool stopped;  // by what a thread must not do
static Call call_kernel;
static void (*kernel)();
static void** arguments;

// Shared memory, by the line that declares it: as aligned as its type asks for and no more.
struct Declared {
  int line;
  char* start;
  size_t bytes;
};
static const size_t APART = 256;
static vector<Declared> declared;
static vector<char> arena(1 << 20);
static size_t used;

void* shared(int line, size_t bytes, size_t alignment) {
  for (auto& d : declared)
    if (d.line == line && d.bytes == bytes) return d.start;
  char* first = arena.data() + APART - (uintptr_t)arena.data() % APART;
  char* start = first + used + alignment;
  used += (alignment + bytes + 2 * APART - 1) / APART * APART;
  if (first + used > arena.data() + arena.size()) abort();
  declared.push_back({line, start, bytes});
  memset(start, 0xff, bytes);
  return start;
}

static void wait(State at) {
  fibers[current].state = at;
  swapcontext(&fibers[current].context, &scheduler);
}

}  // namespace emulation

#include "cuda_memory_checks.h"

namespace emulation {

void wait_for_warp() { wait(AT_WARP); }
void wait_for_block() { wait(AT_BLOCK); }

void exchange(void* x, size_t bytes, unsigned thread) {
  auto& slots = emulation::slots[fibers[current].exchanges++ % 2];
  memcpy(&slots[current], x, bytes);
  wait(AT_WARP);
  memcpy(x, &slots[thread], bytes);
}

static void run_thread() {
  call_kernel(kernel, arguments);
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
  checking::ordered_from_here(from, to);
  return true;
}

// Run a warp until all its threads wait for the rest of the block, or for ever.
static void warp(unsigned first, bool reversed) {
  do {
    for (unsigned i = 0; i < 32 && !stopped; i++) {
      current = first + (reversed ? 31 - i : i);
      if (fibers[current].state != RUNS) continue;
      indices.thread.x = current;
      swapcontext(&scheduler, &fibers[current].context);
    }
  } while (!stopped && released(first, first + 32, AT_WARP));
}

// Whether every thread of a block came to its end; not where some wait for others that never come.
static bool block(bool reversed) {
  const unsigned threads = indices.threads.x;
  for (auto& d : declared) memset(d.start, 0xff, d.bytes);
  checking::start_block();
  for (unsigned t = 0; t < threads; t++) {
    Fiber& fiber = fibers[t];
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = stacks.data() + t * STACK;
    fiber.context.uc_stack.ss_size = STACK;
    fiber.context.uc_link = &scheduler;
    fiber.state = RUNS;
    fiber.exchanges = 0;
    makecontext(&fiber.context, run_thread, 0);
  }
  while (!all(0, threads, ENDED)) {
    for (unsigned w = 0; w < threads / 32; w++) warp(32 * (reversed ? threads / 32 - 1 - w : w), reversed);
    if (stopped || (!released(0, threads, AT_BLOCK) && !all(0, threads, ENDED))) return false;
  }
  return true;
}

// 0; 1 where the threads of a block wait for each other for ever, or 2 where `report` in cuda_memory_checks.h tells why not.
int run(Call call, void (*fn)(), const unsigned* grid, unsigned threads, void** args, int reversed, unsigned long long last) {
  call_kernel = call, kernel = fn, arguments = args;
  declared.clear(), used = 0, stopped = false;
  indices = {{}, {}, {threads, 1, 1}, {grid[0], grid[1], grid[2]}};
  const unsigned long long blocks = 1ull * grid[0] * grid[1] * grid[2];
  const unsigned long long first = last && last < blocks ? blocks - last : 0;  // of the last few, or of all
  for (unsigned long long i = first; i < blocks; i++) {
    const unsigned long long b = reversed ? blocks - 1 - (i - first) : i;
    indices.block = {(unsigned)(b % grid[0]), (unsigned)(b / grid[0] % grid[1]), (unsigned)(b / grid[0] / grid[1])};
    if (!block(reversed)) return stopped ? 2 : 1;
  }
  return 0;
}

}  // namespace emulation
