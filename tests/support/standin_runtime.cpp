#include "support/standin_runtime.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <thread>
#include <utility>

namespace standin {
namespace {

constexpr std::uint64_t kAll = ~std::uint64_t{0};  // the end of a queue

std::int64_t from_environment(const char* name, std::int64_t otherwise) {
  const char* value = std::getenv(name);
  return value == nullptr ? otherwise : std::atoll(value);
}

int index_of(c10::Stream stream) { return stream.device_index() * kStreams + static_cast<int>(stream.id()); }
int device_of(int stream) { return stream / kStreams; }

void merge(Clock& clock, const Clock& other) {
  std::ranges::transform(clock, other, clock.begin(), [](auto a, auto b) { return std::max(a, b); });
}

thread_local int current_device_index = 0;
thread_local std::array<int, kMaxDevices> current_streams{};

}  // namespace

Runtime& Runtime::get() {
  static auto* const runtime = new Runtime;
  return *runtime;
}

Runtime::Runtime()
    : num_devices_(static_cast<int>(std::clamp<std::int64_t>(from_environment("STANDIN_DEVICES", 3), 0, kMaxDevices))) {
  for (DeviceState& device : devices_) {
    device.limit = from_environment("STANDIN_MEMORY", 0);
    device.fails_in = from_environment("STANDIN_FAIL", 0);
    const char* seconds = std::getenv("STANDIN_DELAY");
    if (seconds != nullptr) device.delay = std::atof(seconds);
  }
}

void* Runtime::allocate(int device, std::size_t bytes) {
  if (bytes == 0) return nullptr;
  const std::lock_guard lock(mutex_);
  touch(device);
  make_room(device, bytes);
  Block block{arena_.take(device, bytes), bytes, device,
              index_of(current_stream({kType, static_cast<c10::DeviceIndex>(device)}))};
  // Whoever had the memory before may still be at work on this stream.
  const auto home = static_cast<std::size_t>(block.home);
  block.writer = {block.home, streams_[home].clock[home]};
  auto& stats = devices_[static_cast<std::size_t>(device)].stats;
  stats.bytes += static_cast<std::int64_t>(bytes);
  stats.peak_bytes = std::max(stats.peak_bytes, stats.bytes);
  ++stats.blocks;
  void* const address = block.address;
  blocks_.emplace(static_cast<const char*>(address), std::move(block));
  return address;
}

void Runtime::make_room(int device, std::size_t bytes) {
  const auto& state = devices_[static_cast<std::size_t>(device)];
  const auto fits = [&] {
    return state.limit == 0 || state.stats.bytes + static_cast<std::int64_t>(bytes) <= state.limit;
  };
  for (int s = device * kStreams; s < (device + 1) * kStreams; ++s) {
    while (next_is_free(s)) run_next(s);
    if (!fits()) run(s, kAll);
  }
  TORCH_CHECK_WITH(OutOfMemoryError, fits(), "standin out of memory. Tried to allocate ", bytes, " bytes. Device ",
                   device, " has a total capacity of ", state.limit, " bytes of which ",
                   state.limit - state.stats.bytes, " are free.");
}

void Runtime::release(void* address) {
  if (address == nullptr) return;
  const std::lock_guard lock(mutex_);
  const auto found = blocks_.find(static_cast<const char*>(address));
  if (found == blocks_.end()) return fail(arena_.device_of(address), "memory was freed twice");
  const Block block = std::move(found->second);
  blocks_.erase(found);
  auto uses = block.readers;
  if (block.writer.stream >= 0) uses[block.writer.stream] = std::max(uses[block.writer.stream], block.writer.time);
  const Clock& home = streams_[static_cast<std::size_t>(block.home)].clock;
  // The last of the streams that it was recorded for frees it.
  const std::shared_ptr<void> last(nullptr, [this, block](void*) { free_now(block); });
  for (const auto& [stream, time] : uses) {
    const auto s = static_cast<std::size_t>(stream);
    if (stream == block.home || home[s] >= time || host_[s] >= time) continue;
    if (block.recorded.contains(stream)) {
      streams_[s].queue.push_back({[last] {}, /*frees=*/true});
    } else {
      ++devices_[static_cast<std::size_t>(block.device)].stats.violations;
      fail(block.device, c10::str("memory of ", block.bytes, " bytes was freed while stream ", stream % kStreams,
                                  " may still use it, without record_stream"));
    }
  }
}

void Runtime::free_now(const Block& block) {
  const std::lock_guard lock(mutex_);
  arena_.give_back(block.address, block.bytes);
  auto& stats = devices_[static_cast<std::size_t>(block.device)].stats;
  stats.bytes -= static_cast<std::int64_t>(block.bytes);
  --stats.blocks;
}

void Runtime::record_stream(const void* address, c10::Stream stream) {
  if (address == nullptr) return;
  const std::lock_guard lock(mutex_);
  block_of(address).recorded.insert(index_of(stream));
}

Runtime::Block& Runtime::block_of(const void* address) {
  const auto after = blocks_.upper_bound(static_cast<const char*>(address));
  Block* block = after == blocks_.begin() ? nullptr : &std::prev(after)->second;
  const bool inside = block != nullptr && static_cast<const char*>(address) <
                                              static_cast<const char*>(block->address) + Arena::size_of(block->bytes);
  TORCH_CHECK(inside, "standin: a kernel uses memory that was freed");
  return *block;
}

void Runtime::require_before(const Clock& now, Moment moment, const Block& block, int stream, const char* what) {
  if (moment.stream < 0 || now[static_cast<std::size_t>(moment.stream)] >= moment.time) return;
  ++devices_[static_cast<std::size_t>(block.device)].stats.violations;
  TORCH_CHECK(false, "standin: stream ", stream % kStreams, " of device ", device_of(stream), " ", what, " memory of ",
              block.bytes, " bytes that stream ", moment.stream % kStreams, " of device ", device_of(moment.stream),
              " may still be using: no event or wait orders them");
}

void Runtime::launch(c10::Stream on, const std::vector<const void*>& reads, const std::vector<const void*>& writes) {
  const std::lock_guard lock(mutex_);
  const int stream = index_of(on);
  auto& state = streams_.at(static_cast<std::size_t>(stream));
  auto& device = devices_[static_cast<std::size_t>(on.device_index())];
  touch(on.device_index());
  merge(state.clock, host_);
  const Moment now{stream, ++state.clock[static_cast<std::size_t>(stream)]};
  for (const void* address : reads) {
    Block& block = block_of(address);
    require_before(state.clock, block.writer, block, stream, "reads");
    block.readers[stream] = now.time;
  }
  for (const void* address : writes) {
    Block& block = block_of(address);
    require_before(state.clock, block.writer, block, stream, "writes");
    for (const auto& [reader, time] : block.readers)
      require_before(state.clock, {reader, time}, block, stream, "writes");
    block.readers.clear();
    block.writer = now;
  }
  ++device.stats.kernels;
  state.backlog += device.delay;
  if (device.fails_in > 0 && --device.fails_in == 0) fail(on.device_index(), "an operation failed, as it was told to");
}

void Runtime::enqueue(c10::Stream stream, std::function<void()> work) {
  const std::lock_guard lock(mutex_);
  streams_.at(static_cast<std::size_t>(index_of(stream))).queue.push_back({std::move(work)});
}

bool Runtime::next_is_free(int stream) const {
  const auto& queue = streams_[static_cast<std::size_t>(stream)].queue;
  return !queue.empty() && queue.front().frees;
}

void Runtime::run_next(int stream) {
  auto& state = streams_.at(static_cast<std::size_t>(stream));
  const Task task = std::move(state.queue.front());
  state.queue.pop_front();
  ++state.done;
  task.work();
}

/// Does the queued work of the stream that comes before the position.
void Runtime::run(int stream, std::uint64_t position) {
  auto& state = streams_.at(static_cast<std::size_t>(stream));
  while (!state.queue.empty() && state.done < position) run_next(stream);
  if (const double seconds = std::exchange(state.backlog, 0); seconds > 0) {
    std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
  }
}

void Runtime::waited(int device, const Clock& happened) {
  merge(host_, happened);
  auto& state = devices_[static_cast<std::size_t>(device)];
  ++state.stats.waits;
  TORCH_CHECK(state.error.empty(), "standin: device ", device, ": ", state.error);
}

void Runtime::record(Event& event, c10::Stream stream) {
  const std::lock_guard lock(mutex_);
  touch(stream.device_index());
  touch(current_device_index);  // CUDA's guard goes back to it
  const auto& state = streams_.at(static_cast<std::size_t>(index_of(stream)));
  event = {index_of(stream), state.done + state.queue.size(), state.clock};
}

void Runtime::block(const Event& event, c10::Stream stream) {
  const std::lock_guard lock(mutex_);
  touch(stream.device_index());
  touch(current_device_index);
  auto& state = streams_.at(static_cast<std::size_t>(index_of(stream)));
  merge(state.clock, event.before);
  if (event.stream == index_of(stream)) return;
  state.queue.push_back({[this, event] { run(event.stream, event.position); }});
}

void Runtime::wait(const Event& event) {
  const std::lock_guard lock(mutex_);
  run(event.stream, event.position);
  waited(device_of(event.stream), event.before);
}

/// Whoever asks again and again comes to the end.
bool Runtime::query(const Event& event) {
  const std::lock_guard lock(mutex_);
  const auto& state = streams_[static_cast<std::size_t>(event.stream)];
  if (state.done < event.position) {
    run(event.stream, state.done + 1);
    return false;
  }
  merge(host_, event.before);
  return true;
}

void Runtime::wait(c10::Stream stream) {
  const std::lock_guard lock(mutex_);
  touch(stream.device_index());
  run(index_of(stream), kAll);
  waited(stream.device_index(), streams_.at(static_cast<std::size_t>(index_of(stream))).clock);
}

bool Runtime::query(c10::Stream stream) {
  Event event;
  record(event, stream);
  return query(event);
}

void Runtime::wait_for_device(int device) {
  const std::lock_guard lock(mutex_);
  touch(device);
  Clock all = host_;
  for (int s = device * kStreams; s < (device + 1) * kStreams; ++s) {
    run(s, kAll);
    merge(all, streams_[static_cast<std::size_t>(s)].clock);
  }
  waited(device, all);
}

void Runtime::touch(int device) {
  const std::lock_guard lock(mutex_);
  TORCH_CHECK(device >= 0 && device < num_devices_, "standin: there is no device ", device, " of ", num_devices_);
  devices_[static_cast<std::size_t>(device)].stats.used = true;
}

bool Runtime::is_touched(int device) { return stats(device).used; }

void Runtime::fail(int device, const std::string& why) {
  const std::lock_guard lock(mutex_);
  auto& error = devices_[static_cast<std::size_t>(device)].error;
  if (error.empty()) error = why;
}

void Runtime::count_copy(int device, Copies Stats::*kind, std::size_t bytes, bool waiting) {
  change(device, [&](DeviceState& state) {
    Copies& copies = state.stats.*kind;
    ++copies.count;
    copies.bytes += static_cast<std::int64_t>(bytes);
    copies.waiting += waiting ? 1 : 0;
  });
}

c10::Device Runtime::current_device() const { return {kType, static_cast<c10::DeviceIndex>(current_device_index)}; }

void Runtime::set_current_device(c10::Device device) {
  if (device.index() >= 0) current_device_index = device.index();
}

c10::Stream Runtime::current_stream(c10::Device device) const {
  const int index = device.index() < 0 ? current_device_index : device.index();
  return c10::Stream(c10::Stream::UNSAFE, {kType, static_cast<c10::DeviceIndex>(index)},
                     current_streams.at(static_cast<std::size_t>(index)));
}

void Runtime::set_current_stream(c10::Stream stream) {
  current_streams.at(static_cast<std::size_t>(stream.device_index())) = static_cast<int>(stream.id());
}

c10::Stream Runtime::pool_stream(c10::Device device) {
  const std::lock_guard lock(mutex_);
  const int index = device.index() < 0 ? current_device_index : device.index();
  touch(index);
  const auto next = devices_[static_cast<std::size_t>(index)].next_stream++;
  return c10::Stream(c10::Stream::UNSAFE, {kType, static_cast<c10::DeviceIndex>(index)}, 1 + next % (kStreams - 1));
}

Stats Runtime::stats(int device) {
  const std::lock_guard lock(mutex_);
  return devices_.at(static_cast<std::size_t>(device)).stats;
}

void Runtime::change(int device, const std::function<void(DeviceState&)>& change) {
  const std::lock_guard lock(mutex_);
  change(devices_.at(static_cast<std::size_t>(device)));
}

}  // namespace standin
