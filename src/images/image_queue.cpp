#include "epd/images/image_queue.h"

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>

#include "epd/core/error.h"

namespace epd {

struct Prefetcher::State {
  struct Slot {
    bool ready = false;
    Image image;
    std::exception_ptr error;
  };

  const ImageSource& source;
  const std::vector<std::size_t> indices;
  std::mutex mutex;
  std::condition_variable slot_ready, slot_free;
  std::vector<Slot> slots;    // position p lives in slot p % window
  std::size_t next_load = 0;  // the position that a worker takes next
  std::size_t next_pull = 0;  // the position that the puller gets next
  bool stop = false;
  std::vector<std::thread> threads;

  State(const ImageSource& s, std::vector<std::size_t> i) : source(s), indices(std::move(i)) {}

  void work() {
    std::unique_lock lock(mutex);
    while (true) {
      slot_free.wait(lock, [&] { return stop || next_load >= indices.size() || next_load < next_pull + slots.size(); });
      if (stop || next_load >= indices.size()) return;
      const std::size_t position = next_load++;
      lock.unlock();
      Slot loaded = load(indices[position]);
      lock.lock();
      slots[position % slots.size()] = std::move(loaded);
      slot_ready.notify_one();
    }
  }

  Slot load(std::size_t index) const {
    Slot slot;
    try {
      slot.image = source.load(index);
    } catch (...) {
      slot.error = std::current_exception();
    }
    slot.ready = true;
    return slot;
  }
};

Prefetcher::Prefetcher(const ImageSource& source, std::vector<std::size_t> indices, PrefetchOptions options)
    : state_(std::make_unique<State>(source, std::move(indices))) {
  const std::size_t count = state_->indices.size();
  const auto num_threads = std::clamp<std::size_t>(static_cast<std::size_t>(std::max(options.threads, 1)), 1,
                                                   std::max<std::size_t>(count, 1));
  state_->slots.resize(std::max(options.window, num_threads));
  for (std::size_t i = 0; i < num_threads; ++i) {
    state_->threads.emplace_back([state = state_.get()] { state->work(); });
  }
}

Prefetcher::~Prefetcher() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->stop = true;
  }
  state_->slot_free.notify_all();
  for (auto& thread : state_->threads) thread.join();
}

std::optional<Prefetcher::Item> Prefetcher::next() {
  State& state = *state_;
  std::unique_lock lock(state.mutex);
  if (state.next_pull >= state.indices.size()) return std::nullopt;
  State::Slot& slot = state.slots[state.next_pull % state.slots.size()];
  state.slot_ready.wait(lock, [&] { return slot.ready; });
  if (slot.error) std::rethrow_exception(slot.error);
  Item item{state.indices[state.next_pull], std::move(slot.image)};
  slot = {};
  ++state.next_pull;
  lock.unlock();
  state.slot_free.notify_one();
  return item;
}

}  // namespace epd
