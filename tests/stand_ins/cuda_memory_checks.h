// What a kernel does to memory, access by access: whether it may, whether its threads race, and how many bytes it moves.
//
// Kernels compiled for it call the functions at the end before each access: those of ThreadSanitizer for what is read and
// written, those of UndefinedBehaviorSanitizer for pointers that are not aligned to their type and for indices beyond a local
// array. A thread that is at fault is left where it stands, before the access.

namespace checking {

using namespace emulation;

enum Access { READ, WRITE, ATOMIC };
enum Fault { NOTHING, OUTSIDE, MISALIGNED, BEYOND, RACE };

// The bytes of an argument, and of what a launch moved between them and the kernel.
struct Span {
  uintptr_t start;
  unsigned long long bytes, read, written, distinct_read, distinct_written;
};

enum Place { NOWHERE, ARGUMENT, SHARED_MEMORY };
struct Report {
  int fault, access, place, number;  // of the argument, or of the line
  long long at;                      // in that place; the index, where BEYOND
  unsigned long long bytes, room;
  Index block;
  unsigned thread;
  int other_access;
  Index other_block;
  unsigned other_thread;
  unsigned long long code;  // where, in the library
  char type[80];
};

static bool on;
static Span* spans;
static int count;
static Report report;

// Who makes an access, and when: `block_epoch` grows with each barrier and each block, `warp_epoch` with what orders a warp.
struct Moment {
  Index block;
  unsigned thread, block_epoch, warp_epoch;
};
static vector<Moment> moments;  // the first stands for nobody
static unsigned now[1024];      // of each thread; 0 where it has none yet
static unsigned block_epoch, warp_epochs[32];

static bool same(Index a, Index b) { return a.x == b.x && a.y == b.y && a.z == b.z; }

static bool ordered(const Moment& a, const Moment& b) {
  if (!same(a.block, b.block)) return false;
  return a.thread == b.thread || a.block_epoch < b.block_epoch ||
         (a.thread / 32 == b.thread / 32 && a.warp_epoch < b.warp_epoch);
}

static unsigned moment() {
  unsigned& m = now[current];
  if (!m) {
    m = moments.size();
    moments.push_back({indices.block, current, block_epoch, warp_epochs[current / 32]});
  }
  return m;
}

// The last write of a byte; of the reads, and of the atomic operations, the first that is not ordered before a later one. It
// speaks for the others: a thread runs until it must wait, so who writes next has not made that access itself, and if it is
// ordered before the write, so are they.
struct Byte {
  unsigned write, read, atomic, seen;
};
static const size_t PAGE = 512;
struct Page {
  Byte bytes[PAGE];
};
static unordered_map<uintptr_t, Page> pages;

static bool past(unsigned other, unsigned m) { return !other || ordered(moments[other], moments[m]); }

// An access that excludes this one and is not ordered before it; 0 where there is none.
static unsigned collides(const Byte& byte, Access access, unsigned m) {
  if (!past(byte.write, m)) return report.other_access = WRITE, byte.write;
  if (access != ATOMIC && !past(byte.atomic, m)) return report.other_access = ATOMIC, byte.atomic;
  if (access != READ && !past(byte.read, m)) return report.other_access = READ, byte.read;
  return 0;
}

static void stop(Fault fault, void* code) {
  Dl_info library;
  report.fault = fault;
  report.block = indices.block, report.thread = current;
  report.code = dladdr(code, &library) ? (char*)code - (char*)library.dli_fbase : 0;
  stopped = true;
  wait(ENDED);
}

// The place that an address belongs to, or the nearest one.
static void locate(uintptr_t p) {
  uintptr_t nearest = 1 << 20;
  report.place = NOWHERE, report.at = p;
  auto consider = [&](uintptr_t start, size_t bytes, Place place, int number) {
    uintptr_t distance = p < start ? start - p : p < start + bytes ? 0 : p - start - bytes;
    if (distance >= nearest) return;
    nearest = distance;
    report.place = place, report.number = number, report.at = (long long)(p - start), report.room = bytes;
  };
  for (auto& d : declared) consider((uintptr_t)d.start, d.bytes, SHARED_MEMORY, d.line);
  const bool in_arena = p - (uintptr_t)arena.data() < arena.size();
  for (int i = 0; i < count && !in_arena; i++) consider(spans[i].start, spans[i].bytes, ARGUMENT, i);
}

static void misaligned(uintptr_t p, size_t alignment, Access access, const char* type, void* code) {
  if (!on) return;
  report.access = access, report.bytes = alignment;
  strncpy(report.type, type, sizeof report.type - 1);
  locate(p), stop(MISALIGNED, code);
}

static void tally(Span* span, Byte& byte, Access access) {
  unsigned before = byte.seen;
  byte.seen |= access == READ ? 1 : access == WRITE ? 2 : 3;
  if (!span) return;
  span->distinct_read += byte.seen & ~before & 1;
  span->distinct_written += (byte.seen & ~before) >> 1;
}

static void touch(const void* address, size_t bytes, Access access, void* code) {
  const uintptr_t p = (uintptr_t)address;
  auto within = [&](const void* start, size_t room) {
    return p >= (uintptr_t)start && p + bytes <= (uintptr_t)start + room;
  };
  if (!on || within(stacks.data() + current * STACK, STACK) || within(&indices, sizeof indices)) return;
  report.access = access, report.bytes = bytes;
  Span* span = nullptr;
  for (int i = 0; i < count && !span; i++)
    if (within((void*)spans[i].start, spans[i].bytes)) span = &spans[i];
  bool inside = span;
  for (auto& d : declared) inside |= within(d.start, d.bytes);
  if (!inside) return locate(p), stop(OUTSIDE, code);
  if (span && access != WRITE) span->read += bytes;
  if (span && access != READ) span->written += bytes;

  const unsigned m = moment();
  Page* page = nullptr;
  for (size_t i = 0; i < bytes; i++) {
    if (!page || (p + i) % PAGE == 0) page = &pages[(p + i) / PAGE];
    Byte& byte = page->bytes[(p + i) % PAGE];
    if (unsigned other = collides(byte, access, m)) {
      report.other_block = moments[other].block, report.other_thread = moments[other].thread;
      return locate(p + i), stop(RACE, code);
    }
    tally(span, byte, access);
    if (access == READ && past(byte.read, m)) byte.read = m;
    if (access == ATOMIC && past(byte.atomic, m)) byte.atomic = m;
    if (access == WRITE) byte.write = m;
  }
}

// What a block's threads from one to another do next comes after all that they have done.
static void ordered_from_here(unsigned from, unsigned to) {
  if (!on) return;
  if (to - from == indices.threads.x) block_epoch++;
  for (unsigned w = from / 32; w < to / 32; w++) warp_epochs[w]++;
  for (unsigned t = from; t < to; t++) now[t] = 0;
}

static void start_block() {
  if (!on) return;
  for (uintptr_t at = 0; at <= used + 2 * APART; at += PAGE) pages.erase(((uintptr_t)arena.data() + at) / PAGE);
  ordered_from_here(0, indices.threads.x);
}

}  // namespace checking

namespace emulation {

void atomic(const void* at, size_t bytes, void* code) {
  if (!checking::on) return;
  if ((uintptr_t)at % bytes) checking::misaligned((uintptr_t)at, bytes, checking::ATOMIC, "", code);
  checking::touch(at, bytes, checking::ATOMIC, code);
}

#undef memcpy
void* copy(void* to, const void* from, size_t bytes) {
  checking::touch(from, bytes, checking::READ, __builtin_return_address(0));
  checking::touch(to, bytes, checking::WRITE, __builtin_return_address(0));
  return memcpy(to, from, bytes);
}

}  // namespace emulation

#define EXPORTED extern "C" __attribute__((visibility("default")))

// Check the launches from here on, for kernels given these arguments; none: no longer.
EXPORTED void check(checking::Span* spans, int count) {
  checking::on = spans;
  checking::spans = spans, checking::count = count;
  if (spans) checking::report = {};
  checking::pages.clear();
  checking::moments.assign(1, {});
}

EXPORTED const checking::Report* report() { return &checking::report; }

// What the compiler calls.

#define HOOK(name, bytes, access) \
  extern "C" void __tsan_##name(void* p) { checking::touch(p, bytes, checking::access, __builtin_return_address(0)); }
#define HOOKS(bytes)                    \
  HOOK(read##bytes, bytes, READ)        \
  HOOK(write##bytes, bytes, WRITE)      \
  HOOK(unaligned_read##bytes, bytes, READ) \
  HOOK(unaligned_write##bytes, bytes, WRITE)
HOOKS(1) HOOKS(2) HOOKS(4) HOOKS(8) HOOKS(16)

extern "C" void __tsan_read_range(void* p, size_t bytes) {
  checking::touch(p, bytes, checking::READ, __builtin_return_address(0));
}
extern "C" void __tsan_write_range(void* p, size_t bytes) {
  checking::touch(p, bytes, checking::WRITE, __builtin_return_address(0));
}
extern "C" void __tsan_init() {}
extern "C" void __tsan_func_entry(void*) {}
extern "C" void __tsan_func_exit(void*) {}

struct Type {
  unsigned short kind, info;
  char name[1];
};
struct Place {
  const char* file;
  unsigned line, column;
};

extern "C" void __ubsan_handle_type_mismatch_v1(const void* what, uintptr_t p) {
  struct Mismatch {
    Place place;
    const Type& type;
    unsigned char alignment, access;  // the first by its logarithm; the second 1 where it is written to
  };
  const Mismatch& m = *(const Mismatch*)what;
  checking::Access access = m.access == 1 ? checking::WRITE : checking::READ;
  checking::misaligned(p, 1ull << m.alignment, access, m.type.name, __builtin_return_address(0));
}

extern "C" void __ubsan_handle_out_of_bounds(const void* what, uintptr_t index) {
  struct Bounds {
    Place place;
    const Type &array, &index;
  };
  const Bounds& bounds = *(const Bounds*)what;
  if (!checking::on) return;
  const int unused = 64 - (1 << (bounds.index.info >> 1));
  checking::report.at = (long long)(index << unused) >> unused;
  strncpy(checking::report.type, bounds.array.name, sizeof checking::report.type - 1);
  checking::stop(checking::BEYOND, __builtin_return_address(0));
}
