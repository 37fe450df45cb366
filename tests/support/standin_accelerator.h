#pragma once

#include <cstdint>

/// A stand-in for a GPU on a machine without one: a device type of LibTorch (PrivateUse1, called "standin") whose
/// kernels are the CPU's, and which is stricter than a GPU about all that goes wrong on one in silence.
///
/// Loaded, by linking or by LD_PRELOAD, it registers itself; every program then knows --device standin and standin:N.
///
///   - Memory. A device's addresses have no access rights: a host that reads or writes them dies by SIGSEGV, after a
///     line that says so. Only kernels see the bytes, through addresses of their own. New and freed memory is filled
///     with 0xff: not a number, -1, or white. An address is given out again only after 64 MiB more
///     were freed.
///   - Order. Copies from a device that do not block run when their stream or an event behind them is waited for, not
///     before; until then, pinned memory holds 0xff. Kernels and copies to a device compute at once, yet nobody can
///     tell: the result can leave the device only by a copy, and each use of memory must be ordered behind the last one
///     by the stream, an event or the host. Where it is not, and a GPU would sometimes give old numbers, it is an error
///     always. So is a source of such a copy that the host changes before the copy was waited for.
///   - Freeing. Memory that another stream than its own may still use, without record_stream, is an error at the next
///     wait. With record_stream it counts until the copies that the stream still owed have run.
///   - Devices. A tensor of another device, or one on the CPU with a dimension, is refused by every operation but a
///   copy.
///     A device counts as used from the first time that something needs a context on it, by the rules of CUDA.
///   - What does not exist: time. A kernel takes none, unless `delay` says so.
namespace standin {

inline constexpr const char* kName = "standin";

struct Copies {
  std::int64_t count = 0, bytes = 0;
  std::int64_t waiting = 0;  // those among them that the host waits for
};

/// Of one device, since the start or the last reset_counts.
struct Stats {
  std::int64_t bytes = 0, peak_bytes = 0;  // of live memory, as asked for; the peak since reset_peak
  std::int64_t blocks = 0;                 // live allocations
  std::int64_t kernels = 0;                // operations that ran on it
  std::int64_t waits = 0;                  // times that the host waited for it: copies, events, streams, values
  std::int64_t violations = 0;             // uses of memory out of order, and frees too early
  Copies to_device, to_host, within;       // within: on the device, or from one to another
  bool used = false;                       // has a context
};

/// STANDIN_DEVICES in the environment; else 3.
int num_devices();

Stats stats(int device);
std::int64_t bytes(int device);
std::int64_t peak_bytes(int device);

/// The live memory once the last thread that still holds some has let it go: autograd's do a moment after their work.
std::int64_t settled_bytes(int device);

/// The peak begins anew from what is live.
void reset_peak(int device);
/// Everything but the memory begins at zero, on all devices; errors of the past are forgotten.
void reset_counts();

/// More live memory than this is c10::OutOfMemoryError; 0: no limit. At first STANDIN_MEMORY in the environment.
void limit(int device, std::int64_t bytes);

/// The n-th operation from now on fails (n = 1: the next); the host hears of it when it next waits, and from then on
/// whenever it waits. 0: none. At first STANDIN_FAIL in the environment.
void fail_at(int device, std::int64_t n);

/// Every operation takes this long, which whoever waits for its stream waits. At first STANDIN_DELAY.
void delay(int device, double seconds);

/// A program with STANDIN_REPORT in its environment writes what stats() says of all devices into that file at its end:
/// JSON, a list of objects with the names above.
}  // namespace standin
