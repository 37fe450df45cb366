#pragma once

#include <c10/core/Stream.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "support/standin_accelerator.h"

/// What the stand-in's devices are made of, without LibTorch's operations: memory, streams, events and counts.
namespace standin {

constexpr auto kType = c10::DeviceType::PrivateUse1;
constexpr int kMaxDevices = 8;
constexpr int kStreams = 4;  // of a device: the default one and a pool of three

/// How many operations of each stream have happened before (a vector clock: Mattern 1988).
using Clock = std::array<std::uint64_t, kMaxDevices * kStreams>;

struct Event {
  int stream = -1;
  std::uint64_t position = 0;  // in its stream's queue
  Clock before{};
};

/// The device addresses, without access rights, and the same bytes where kernels may touch them.
class Arena {
 public:
  Arena();
  void* take(int device, std::size_t bytes);
  /// Fills it with 0xff; it is taken again only after much else was given back.
  void give_back(void* address, std::size_t bytes);
  char* kernel_view(const void* address) const { return view_ + (static_cast<const char*>(address) - base_); }
  bool holds(const void* address) const;
  int device_of(const void* address) const;

 private:
  int file_;
  char *base_, *view_;
  std::array<std::size_t, kMaxDevices> taken_{};
  std::deque<std::pair<void*, std::size_t>> resting_;
  std::map<std::pair<int, std::size_t>, std::deque<void*>> free_;  // by device and size
  std::size_t resting_bytes_ = 0, free_bytes_ = 0;
};

/// Throws c10::Error with a message for whatever the header calls an error. Every call may come from any thread.
class Runtime {
 public:
  static Runtime& get();  // never destroyed

  int num_devices() const { return num_devices_; }
  Arena& arena() { return arena_; }

  void* allocate(int device, std::size_t bytes);
  void release(void* address);
  /// Memory that `stream` uses beside its own.
  void record_stream(const void* address, c10::Stream stream);

  /// An operation on a stream that reads and writes these device addresses: checks their order, and the operation is
  /// the last of the stream.
  void launch(c10::Stream stream, const std::vector<const void*>& reads, const std::vector<const void*>& writes);
  /// Work that is left until the stream is waited for.
  void enqueue(c10::Stream stream, std::function<void()> work);
  void count_copy(int device, Copies Stats::*kind, std::size_t bytes, bool waiting);

  void record(Event& event, c10::Stream stream);
  void block(const Event& event, c10::Stream stream);
  void wait(const Event& event);
  bool query(const Event& event);
  void wait(c10::Stream stream);
  bool query(c10::Stream stream);
  void wait_for_device(int device);

  /// The device has a context from now on.
  void touch(int device);
  bool is_touched(int device);
  void fail(int device, const std::string& why);

  c10::Device current_device() const;
  void set_current_device(c10::Device device);
  c10::Stream current_stream(c10::Device device) const;
  void set_current_stream(c10::Stream stream);
  c10::Stream pool_stream(c10::Device device);

  Stats stats(int device);
  void change(int device, const std::function<void(Stats&)>& change);
  void forget_errors();
  /// Bytes of a device: its limit; 16 GiB where it has none.
  std::int64_t capacity(int device);
  void set_limit(int device, std::int64_t bytes);
  void set_failure(int device, std::int64_t n);
  void set_delay(int device, double seconds);

 private:
  struct Moment {
    int stream = -1;
    std::uint64_t time = 0;
  };
  struct Block {
    void* address = nullptr;
    std::size_t bytes = 0;
    int device = 0, home = 0;  // the stream that was current at its allocation
    Moment writer;
    std::map<int, std::uint64_t> readers;
    std::set<int> recorded;
  };
  struct Task {
    std::function<void()> work;
    bool frees = false;  // memory; nothing else
  };
  struct StreamState {
    Clock clock{};
    std::deque<Task> queue;
    std::uint64_t done = 0;
    double backlog = 0;  // seconds
  };
  struct DeviceState {
    Stats stats;
    std::string error;
    std::int64_t limit = 0, fails_in = 0;
    double delay = 0;
    std::int64_t next_stream = 0;
  };

  Runtime();
  Block& block_of(const void* address);
  void require_before(const Clock& now, Moment moment, const Block& block, int stream, const char* what);
  bool next_is_free(int stream) const;
  void run_next(int stream);
  void run(int stream, std::uint64_t position);
  void waited(int device, const Clock& happened);
  void free_now(const Block& block);
  void make_room(int device, std::size_t bytes);

  std::recursive_mutex mutex_;
  int num_devices_;
  Arena arena_;
  std::map<const char*, Block> blocks_;
  std::array<StreamState, kMaxDevices * kStreams> streams_;
  std::array<DeviceState, kMaxDevices> devices_;
  Clock host_{};  // what the host knows to have happened
};

}  // namespace standin
