// Checks what a kernel does to memory, access by access: whether it may, whether its threads race, and how
// many bytes it moves.
//
// Kernels compiled for it call the functions at the end before each access: those of ThreadSanitizer for what
// is read and written, those of UndefinedBehaviorSanitizer for pointers that are not aligned to their type
// and for indices beyond a local array. A thread that is at fault is stopped before the access.

namespace checking {

using namespace emulation;

enum Access { READ, WRITE, ATOMIC };
enum Fault { NO_FAULT, OUT_OF_BOUNDS, MISALIGNED, BEYOND_LOCAL_ARRAY, RACE };

// The bytes of an argument, and of what a launch moved between them and the kernel.
struct Span {
  uintptr_t start;
  unsigned long long bytes, read, written, distinct_read, distinct_written;
};

enum Place { NOWHERE, ARGUMENT, SHARED_MEMORY };
struct Report {
  int fault, access, place, number;  // number: of the argument, or of the line
  long long at;                      // in that place; the index for BEYOND_LOCAL_ARRAY
  unsigned long long bytes, size;
  Index block;
  unsigned thread;
  int other_access;
  Index other_block;
  unsigned other_thread;
  unsigned long long code;  // the offset of the machine code in the library
  char type[80];
};

static bool is_checking;
static Span* spans;
static int span_count;
static Report report;

// Who makes an access, and when: `block_epoch` grows with each barrier and each block, `warp_epoch` with
// whatever orders a warp.
struct Moment {
  Index block;
  unsigned thread, block_epoch, warp_epoch;
};
static vector<Moment> moments;           // the first stands for nobody
static unsigned moment_of_thread[1024];  // 0 where a thread has none yet
static unsigned block_epoch, warp_epochs[32];

static bool is_same_block(Index a, Index b) { return a.x == b.x && a.y == b.y && a.z == b.z; }

static bool happens_before(const Moment& a, const Moment& b) {
  if (!is_same_block(a.block, b.block)) return false;
  return a.thread == b.thread || a.block_epoch < b.block_epoch ||
         (a.thread / 32 == b.thread / 32 && a.warp_epoch < b.warp_epoch);
}

static unsigned current_moment() {
  unsigned& m = moment_of_thread[current];
  if (!m) {
    m = moments.size();
    moments.push_back({indices.block, current, block_epoch, warp_epochs[current / 32]});
  }
  return m;
}

// The last write of a byte; of the reads, and of the atomic operations, the first that is not ordered before
// a later one. It stands for the others: a thread runs until it must wait, so the thread that writes next has
// not made that access itself, and if it is ordered before the write, so are they.
struct Byte {
  unsigned write, read, atomic, access_bits;
};
static const size_t PAGE_BYTES = 512;
struct Page {
  Byte bytes[PAGE_BYTES];
};
static unordered_map<uintptr_t, Page> pages;

static bool is_past(unsigned other, unsigned m) {
  return !other || happens_before(moments[other], moments[m]);
}

// Return the moment of an access that excludes this one and is not ordered before it; 0 if there is none.
static unsigned find_conflict(const Byte& byte, Access access, unsigned m) {
  if (!is_past(byte.write, m)) return report.other_access = WRITE, byte.write;
  if (access != ATOMIC && !is_past(byte.atomic, m)) return report.other_access = ATOMIC, byte.atomic;
  if (access != READ && !is_past(byte.read, m)) return report.other_access = READ, byte.read;
  return 0;
}

static void report_and_stop_thread(Fault fault, void* code) {
  Dl_info library;
  report.fault = fault;
  report.block = indices.block, report.thread = current;
  report.code = dladdr(code, &library) ? (char*)code - (char*)library.dli_fbase : 0;
  is_stopped = true;
  wait(ENDED);
}

// Report the place that an address belongs to, or the nearest one.
static void locate(uintptr_t p) {
  uintptr_t nearest = 1 << 20;
  report.place = NOWHERE, report.at = p;
  auto consider = [&](uintptr_t start, size_t bytes, Place place, int number) {
    uintptr_t distance = p < start ? start - p : p < start + bytes ? 0 : p - start - bytes;
    if (distance >= nearest) return;
    nearest = distance;
    report.place = place, report.number = number, report.at = (long long)(p - start), report.size = bytes;
  };
  for (auto& array : shared_arrays) consider((uintptr_t)array.start, array.bytes, SHARED_MEMORY, array.line);
  const bool in_arena = p - (uintptr_t)shared_arena.data() < shared_arena.size();
  for (int i = 0; i < span_count && !in_arena; i++) consider(spans[i].start, spans[i].bytes, ARGUMENT, i);
}

static void report_misaligned(uintptr_t p, size_t alignment, Access access, const char* type, void* code) {
  if (!is_checking) return;
  report.access = access, report.bytes = alignment;
  strncpy(report.type, type, sizeof report.type - 1);
  locate(p), report_and_stop_thread(MISALIGNED, code);
}

static void count_distinct_bytes(Span* span, Byte& byte, Access access) {
  unsigned before = byte.access_bits;
  byte.access_bits |= access == READ ? 1 : access == WRITE ? 2 : 3;
  if (!span) return;
  span->distinct_read += byte.access_bits & ~before & 1;
  span->distinct_written += (byte.access_bits & ~before) >> 1;
}

static void check_access(const void* address, size_t bytes, Access access, void* code) {
  const uintptr_t p = (uintptr_t)address;
  auto within = [&](const void* start, size_t size) {
    return p >= (uintptr_t)start && p + bytes <= (uintptr_t)start + size;
  };
  if (!is_checking || within(&indices, sizeof indices)) return;
  if (within(stacks.data() + current * STACK_BYTES, STACK_BYTES)) return;
  report.access = access, report.bytes = bytes;
  Span* span = nullptr;
  for (int i = 0; i < span_count && !span; i++)
    if (within((void*)spans[i].start, spans[i].bytes)) span = &spans[i];
  bool inside = span;
  for (auto& array : shared_arrays) inside |= within(array.start, array.bytes);
  if (!inside) return locate(p), report_and_stop_thread(OUT_OF_BOUNDS, code);
  if (span && access != WRITE) span->read += bytes;
  if (span && access != READ) span->written += bytes;

  const unsigned m = current_moment();
  Page* page = nullptr;
  for (size_t i = 0; i < bytes; i++) {
    if (!page || (p + i) % PAGE_BYTES == 0) page = &pages[(p + i) / PAGE_BYTES];
    Byte& byte = page->bytes[(p + i) % PAGE_BYTES];
    if (unsigned other = find_conflict(byte, access, m)) {
      report.other_block = moments[other].block, report.other_thread = moments[other].thread;
      return locate(p + i), report_and_stop_thread(RACE, code);
    }
    count_distinct_bytes(span, byte, access);
    if (access == READ && is_past(byte.read, m)) byte.read = m;
    if (access == ATOMIC && is_past(byte.atomic, m)) byte.atomic = m;
    if (access == WRITE) byte.write = m;
  }
}

// Order what the threads from one to another of a block do next after all that they have done.
static void advance_epochs(unsigned from, unsigned to) {
  if (!is_checking) return;
  if (to - from == indices.threads.x) block_epoch++;
  for (unsigned w = from / 32; w < to / 32; w++) warp_epochs[w]++;
  for (unsigned t = from; t < to; t++) moment_of_thread[t] = 0;
}

static void start_block() {
  if (!is_checking) return;
  const uintptr_t arena = (uintptr_t)shared_arena.data();
  for (uintptr_t at = 0; at <= arena_bytes_used + 2 * SHARED_GAP_BYTES; at += PAGE_BYTES)
    pages.erase((arena + at) / PAGE_BYTES);
  advance_epochs(0, indices.threads.x);
}

}  // namespace checking

namespace emulation {

void check_atomic(const void* address, size_t bytes, void* code) {
  if (!checking::is_checking) return;
  if ((uintptr_t)address % bytes)
    checking::report_misaligned((uintptr_t)address, bytes, checking::ATOMIC, "", code);
  checking::check_access(address, bytes, checking::ATOMIC, code);
}

#undef memcpy
void* checked_memcpy(void* to, const void* from, size_t bytes) {
  checking::check_access(from, bytes, checking::READ, __builtin_return_address(0));
  checking::check_access(to, bytes, checking::WRITE, __builtin_return_address(0));
  return memcpy(to, from, bytes);
}

}  // namespace emulation

#define EXPORT extern "C" __attribute__((visibility("default")))

// Check all launches from here on, for kernels with these arguments; with null, check no longer.
EXPORT void set_checked_spans(checking::Span* spans, int count) {
  checking::is_checking = spans;
  checking::spans = spans, checking::span_count = count;
  if (spans) checking::report = {};
  checking::pages.clear();
  checking::moments.assign(1, {});
}

EXPORT const checking::Report* get_report() { return &checking::report; }

// The functions that the compiler calls.

#define HOOK(name, bytes, access)                                                           \
  extern "C" void __tsan_##name(void* p) {                                                  \
    checking::check_access(p, bytes, checking::access, __builtin_return_address(0));        \
  }
#define HOOKS(bytes)                    \
  HOOK(read##bytes, bytes, READ)        \
  HOOK(write##bytes, bytes, WRITE)      \
  HOOK(unaligned_read##bytes, bytes, READ) \
  HOOK(unaligned_write##bytes, bytes, WRITE)
HOOKS(1) HOOKS(2) HOOKS(4) HOOKS(8) HOOKS(16)

extern "C" void __tsan_read_range(void* p, size_t bytes) {
  checking::check_access(p, bytes, checking::READ, __builtin_return_address(0));
}
extern "C" void __tsan_write_range(void* p, size_t bytes) {
  checking::check_access(p, bytes, checking::WRITE, __builtin_return_address(0));
}
extern "C" void __tsan_init() {}
extern "C" void __tsan_func_entry(void*) {}
extern "C" void __tsan_func_exit(void*) {}

struct UbsanTypeDescriptor {
  unsigned short kind, info;
  char name[1];
};
struct UbsanSourceLocation {
  const char* file;
  unsigned line, column;
};

extern "C" void __ubsan_handle_type_mismatch_v1(const void* what, uintptr_t p) {
  struct Mismatch {
    UbsanSourceLocation place;
    const UbsanTypeDescriptor& type;
    unsigned char alignment, access;  // alignment: its logarithm; access: 1 for a write
  };
  const Mismatch& m = *(const Mismatch*)what;
  checking::Access access = m.access == 1 ? checking::WRITE : checking::READ;
  checking::report_misaligned(p, 1ull << m.alignment, access, m.type.name, __builtin_return_address(0));
}

extern "C" void __ubsan_handle_out_of_bounds(const void* what, uintptr_t index) {
  struct Bounds {
    UbsanSourceLocation place;
    const UbsanTypeDescriptor &array, &index;
  };
  const Bounds& bounds = *(const Bounds*)what;
  if (!checking::is_checking) return;
  const int unused = 64 - (1 << (bounds.index.info >> 1));
  checking::report.at = (long long)(index << unused) >> unused;
  strncpy(checking::report.type, bounds.array.name, sizeof checking::report.type - 1);
  checking::report_and_stop_thread(checking::BEYOND_LOCAL_ARRAY, __builtin_return_address(0));
}
