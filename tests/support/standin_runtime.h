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
#include "support/standin_arena.h"

/// What the stand-in's devices are made of, without LibTorch's operations: memory, streams, events and counts.
namespace standin {

constexpr auto kType = c10::DeviceType::PrivateUse1;
constexpr int kStreams = 4;  // of a device: the default one and a pool of three

/// How many operations of each stream have happened before (a vector clock: Mattern 1988).
using Clock = std::array<std::uint64_t, kMaxDevices * kStreams>;

struct Event {
  int stream = -1;
  std::uint64_t position = 0;  // in its stream's queue
  Clock before{};
};

struct DeviceState {
  Stats stats;
  std::string error;  // raised by every wait
  std::int64_t limit = 0, fails_in = 0;
  double delay = 0;  // seconds
  std::int64_t next_stream = 0;
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
  void change(int device, const std::function<void(DeviceState&)>& change);

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
