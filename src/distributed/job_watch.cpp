#include "job_watch.h"

#include <algorithm>
#include <atomic>

#include "epd/core/interrupt.h"
#include "watch_state.h"

namespace epd {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

/// How long the store, or the root, may take to answer.
constexpr auto kPatience = 3s;
/// For answers without which nothing goes on: a store that hangs is noticed by the watching thread before.
constexpr auto kEndless = 24h;
/// Every rank leaves a sign of life twice a second: one that leaves none for this long is silent.
constexpr auto kThreeBeats = 1500ms;

}  // namespace

JobWatch::JobWatch(c10::intrusive_ptr<c10d::Store> store, int rank, std::vector<std::string> processes,
                   milliseconds silence)
    : state_(std::make_shared<WatchState>(std::move(store), rank, std::move(processes), silence)),
      talker_([state = state_] { state->talk(); }),
      watcher_([state = state_] { state->watch(); }) {}

JobWatch::~JobWatch() {
  std::unique_lock lock(state_->mutex);
  state_->stopping = true;
  state_->changed.notify_all();
  const bool ended = state_->changed.wait_for(lock, kPatience, [&] { return state_->talker_ended; });
  lock.unlock();
  watcher_.join();
  if (ended) {
    talker_.join();
  } else {
    talker_.detach();
  }
}

std::optional<JobFailure> JobWatch::failure() const {
  const std::lock_guard lock(state_->mutex);
  return state_->failure;
}

std::optional<JobFailure> JobWatch::await_failure(milliseconds patience) const {
  std::unique_lock lock(state_->mutex);
  state_->changed.wait_for(lock, patience, [&] { return state_->failure.has_value(); });
  return state_->failure;
}

int JobWatch::size() const { return static_cast<int>(state_->processes.size()); }

bool JobWatch::ask(std::function<void(c10d::Store&)> question, milliseconds patience) {
  std::unique_lock lock(state_->mutex);
  state_->question = std::move(question);
  const int number = ++state_->asked;
  state_->changed.notify_all();
  return state_->changed.wait_for(lock, patience, [&] { return state_->answered >= number || state_->store_lost; }) &&
         state_->answered >= number;
}

std::optional<JobFailure> JobWatch::publish(const JobFailure& failure) {
  const auto standing = std::make_shared<std::vector<std::uint8_t>>();
  const bool answered = ask([standing, record = encoded(failure)](
                                c10d::Store& store) { *standing = store.compareSet(job_key::kFailure, {}, record); },
                            kPatience);
  if (!answered) return std::nullopt;
  const auto result = decoded(*standing);
  state_->note(result, result.reporter == failure.reporter);
  return result;
}

bool JobWatch::root_will_report() {
  const auto until = Clock::now() + kPatience;
  const auto seen = std::make_shared<std::atomic<bool>>(false);
  while (!*seen && Clock::now() < until) {
    if (!ask([seen](c10d::Store& store) { *seen = store.check({job_key::kSeenByRoot}); }, kPatience)) return false;
    if (!*seen) std::this_thread::sleep_for(50ms);
  }
  return *seen;
}

std::vector<std::string> JobWatch::silent_ranks() {
  const auto beats_now = [this]() -> std::optional<std::vector<std::vector<std::uint8_t>>> {
    const auto beats = std::make_shared<std::vector<std::vector<std::uint8_t>>>();
    const auto question = [beats, size = size()](c10d::Store& store) {
      std::vector<std::string> keys;
      for (int r = 0; r < size; ++r) keys.push_back(job_key::beat(r));
      *beats = store.multiGet(keys);
    };
    if (!ask(question, kPatience)) return std::nullopt;
    return *beats;
  };
  const auto before = beats_now();
  std::this_thread::sleep_for(kThreeBeats);
  const auto after = beats_now();
  if (!before || !after) return {state_->processes[0]};
  std::vector<std::string> silent;
  for (int r = 0; r < size(); ++r) {
    if (r != state_->rank && (*before)[r] == (*after)[r]) silent.push_back(state_->processes[r]);
  }
  return silent;
}

std::int64_t JobWatch::count(const std::string& key, std::int64_t increment, milliseconds patience) {
  const auto value = std::make_shared<std::atomic<std::int64_t>>(-1);
  ask([=](c10d::Store& store) { *value = store.add(key, increment); }, patience);
  return *value;
}

void JobWatch::await_all_done() {
  auto pause = 1ms;
  for (auto done = count(job_key::kDone, 1, kEndless); done < size(); done = count(job_key::kDone, 0, kEndless)) {
    if (stop_requested() || failure()) return;
    std::this_thread::sleep_for(pause);
    pause = std::min(pause * 2, milliseconds(100));
  }
}

void JobWatch::leave(bool serves_store) {
  {
    const std::lock_guard lock(state_->mutex);
    state_->leaving = true;
    if (state_->store_lost) return;
  }
  const auto until = Clock::now() + kPatience;
  auto left = count(job_key::kLeft, 1, kPatience);
  while (serves_store && left >= 0 && left < size() && Clock::now() < until) {
    std::this_thread::sleep_for(10ms);
    left = count(job_key::kLeft, 0, kPatience);
  }
}

}  // namespace epd
