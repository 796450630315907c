// Runs the kernels that were compiled with `cuda_emulation.h`: one fiber for each thread of a block, one
// block after the other.
//
// A warp runs as far as it can before the next one starts, from the first to the last or, if requested, from
// the last to the first: where a barrier is missing, one of the two orders reads what is not there yet, or no
// longer. Shared memory is full of NaN when a block starts. `cuda_memory_checks.h` finds accesses that
// nothing orders, within a warp too. There are no caches.

#include "cuda_emulation.h"

#include <dlfcn.h>
#include <setjmp.h>
#include <ucontext.h>

#include <cstdint>
#include <cstdlib>
#include <unordered_map>
#include <vector>

namespace emulation {

Indices indices;

enum State { RUNS, AT_WARP, AT_BLOCK, ENDED };
// A context starts a thread; from then on jumps switch between threads, as they make no system calls.
struct Fiber {
  ucontext_t context;
  jmp_buf place;
  bool is_started;
  State state;
  unsigned exchanges;
};
static const size_t STACK_BYTES = 1 << 16;
static vector<Fiber> fibers(1024);
static vector<char> stacks(1024 * STACK_BYTES);
static ucontext_t fresh_context;
static jmp_buf scheduler;
static unsigned current;
static unsigned long long exchange_slots[2][1024];
static bool is_stopped;  // because a thread did what it must not do
static KernelCaller call_kernel;
static void (*kernel)();
static void** arguments;

// Shared memory, by the line that declares it: as aligned as its type needs and no more.
struct SharedArray {
  int line;
  char* start;
  size_t bytes;
};
static const size_t SHARED_GAP_BYTES = 256;
static vector<SharedArray> shared_arrays;
static vector<char> shared_arena(1 << 20);
static size_t arena_bytes_used;

void* declare_shared(int line, size_t bytes, size_t alignment) {
  for (auto& array : shared_arrays)
    if (array.line == line && array.bytes == bytes) return array.start;
  char* first = shared_arena.data() + SHARED_GAP_BYTES - (uintptr_t)shared_arena.data() % SHARED_GAP_BYTES;
  char* start = first + arena_bytes_used + alignment;
  arena_bytes_used += (alignment + bytes + 2 * SHARED_GAP_BYTES - 1) / SHARED_GAP_BYTES * SHARED_GAP_BYTES;
  if (first + arena_bytes_used > shared_arena.data() + shared_arena.size()) abort();
  shared_arrays.push_back({line, start, bytes});
  memset(start, 0xff, bytes);
  return start;
}

static void wait(State state) {
  fibers[current].state = state;
  if (!_setjmp(fibers[current].place)) _longjmp(scheduler, 1);
}

}  // namespace emulation

#include "cuda_memory_checks.h"

namespace emulation {

void wait_for_warp() { wait(AT_WARP); }
void wait_for_block() { wait(AT_BLOCK); }

void exchange(void* x, size_t bytes, unsigned thread) {
  auto& slots = exchange_slots[fibers[current].exchanges++ % 2];
  memcpy(&slots[current], x, bytes);
  wait(AT_WARP);
  memcpy(x, &slots[thread], bytes);
}

static void run_thread() {
  call_kernel(kernel, arguments);
  fibers[current].state = ENDED;
  _longjmp(scheduler, 1);
}

// Run the current thread until it waits or ends.
static void resume() {
  Fiber& fiber = fibers[current];
  if (_setjmp(scheduler)) return;
  if (fiber.is_started) _longjmp(fiber.place, 1);
  fiber.is_started = true;
  setcontext(&fiber.context);
}

static bool all_in_state(unsigned from, unsigned to, State state) {
  for (unsigned t = from; t < to; t++)
    if (fibers[t].state != state) return false;
  return true;
}

static bool release_if_all_wait(unsigned from, unsigned to, State state) {
  if (!all_in_state(from, to, state)) return false;
  for (unsigned t = from; t < to; t++) fibers[t].state = RUNS;
  checking::advance_epochs(from, to);
  return true;
}

// Run a warp until all its threads wait for the rest of the block, or forever.
static void run_warp(unsigned first, bool reversed) {
  do {
    for (unsigned i = 0; i < 32 && !is_stopped; i++) {
      current = first + (reversed ? 31 - i : i);
      if (fibers[current].state != RUNS) continue;
      indices.thread.x = current;
      resume();
    }
  } while (!is_stopped && release_if_all_wait(first, first + 32, AT_WARP));
}

// Run a block; return whether every thread came to its end, and none waits for others that never come.
static bool run_block(bool reversed) {
  const unsigned threads = indices.threads.x;
  for (auto& array : shared_arrays) memset(array.start, 0xff, array.bytes);
  checking::start_block();
  for (unsigned t = 0; t < threads; t++) {
    Fiber& fiber = fibers[t];
    fiber.context = fresh_context;
    fiber.context.uc_stack.ss_sp = stacks.data() + t * STACK_BYTES;
    fiber.context.uc_stack.ss_size = STACK_BYTES;
    fiber.is_started = false;
    fiber.state = RUNS;
    fiber.exchanges = 0;
    makecontext(&fiber.context, run_thread, 0);
  }
  while (!all_in_state(0, threads, ENDED)) {
    for (unsigned w = 0; w < threads / 32; w++)
      run_warp(32 * (reversed ? threads / 32 - 1 - w : w), reversed);
    if (is_stopped) return false;
    if (!release_if_all_wait(0, threads, AT_BLOCK) && !all_in_state(0, threads, ENDED)) return false;
  }
  return true;
}

// Run a kernel; return 0, or 1 if the threads of a block wait for each other forever, or 2 if it was stopped
// for what `get_report` in cuda_memory_checks.h tells.
int run(
    KernelCaller call, void (*fn)(), const unsigned* grid, unsigned threads, void** args, int reversed,
    unsigned long long last_block_count) {
  call_kernel = call, kernel = fn, arguments = args;
  getcontext(&fresh_context);
  shared_arrays.clear(), arena_bytes_used = 0, is_stopped = false;
  indices = {{}, {}, {threads, 1, 1}, {grid[0], grid[1], grid[2]}};
  const unsigned long long blocks = 1ull * grid[0] * grid[1] * grid[2];
  const bool runs_all = !last_block_count || last_block_count >= blocks;
  const unsigned long long first = runs_all ? 0 : blocks - last_block_count;
  for (unsigned long long i = first; i < blocks; i++) {
    const unsigned long long b = reversed ? blocks - 1 - (i - first) : i;
    const unsigned long long plane = b / grid[0];
    indices.block = {(unsigned)(b % grid[0]), (unsigned)(plane % grid[1]), (unsigned)(plane / grid[1])};
    if (!run_block(reversed)) return is_stopped ? 2 : 1;
  }
  return 0;
}

}  // namespace emulation
