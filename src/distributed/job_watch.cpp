#include "job_watch.h"

#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <sstream>
#include <thread>

#include "epd/core/interrupt.h"
#include "epd/core/log.h"
#include "epd/core/run_main.h"

namespace epd {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr auto kBeat = 500ms;
/// A watching thread that slept this long was suspended with the whole process (Ctrl-Z): nobody is to blame.
constexpr auto kSuspended = 3s;
/// How long the work may go on after a failure elsewhere, and after a signal elsewhere, before the process is ended.
constexpr auto kGraceAfterFailure = 8s;
constexpr auto kGraceAfterSignal = 25s;
constexpr auto kPatience = 3s;

const std::string kFailure = "failure", kSeenByRoot = "seen_by_root", kDone = "done", kLeft = "left";
std::string beat_key(int rank) { return text("beat/", rank); }

std::vector<std::uint8_t> bytes(const std::string& value) { return {value.begin(), value.end()}; }
std::string from_bytes(const std::vector<std::uint8_t>& value) { return {value.begin(), value.end()}; }

std::string encoded(const JobFailure& failure) {
  return text(failure.reporter, ' ', failure.exit_code, ' ', failure.reason);
}

JobFailure decoded(const std::string& record) {
  JobFailure failure;
  std::istringstream in(record);
  in >> failure.reporter >> failure.exit_code;
  in.get();
  std::getline(in, failure.reason, '\0');
  return failure;
}

}  // namespace

/// What the two threads share with the process's own. It outlives the watch where a thread hangs in the network.
struct JobWatch::State : std::enable_shared_from_this<JobWatch::State> {
  c10::intrusive_ptr<c10d::Store> store;
  int rank = 0;
  std::vector<std::string> processes;
  milliseconds silence{};

  mutable std::mutex mutex;
  mutable std::condition_variable changed;
  std::optional<JobFailure> failure;
  Clock::time_point failed_at;
  std::function<void(c10d::Store&)> question;  // put by ask(), taken by the talking thread
  int asked = 0, answered = 0;
  bool stopping = false, leaving = false, talker_ended = false, store_lost = false;
  Clock::time_point last_talk = Clock::now(), resumed = Clock::now();

  // The talking thread's own.
  std::vector<std::string> last_beats;
  std::vector<Clock::time_point> beat_changed;
  std::int64_t beats = 0;
  bool root_told = false;

  bool failed() const {
    const std::lock_guard lock(mutex);
    return failure.has_value();
  }
  bool is_root() const { return rank == 0; }
  int size() const { return static_cast<int>(processes.size()); }

  /// Takes down why the job ends; the work is told unless it is the one that said so.
  void note(const JobFailure& found, bool own) {
    {
      const std::lock_guard lock(mutex);
      if (failure) return;
      failure = found;
      failed_at = Clock::now();
    }
    changed.notify_all();
    if (own) return;
    if (found.exit_code > 128) {
      request_stop(found.exit_code - 128);
    } else {
      request_stop(found.reason);
    }
  }

  void look_for_failure() {
    if (!store->check({kFailure})) return;
    note(decoded(from_bytes(store->get(kFailure))), false);
    if (is_root() && !root_told) {
      store->set(kSeenByRoot, std::string("1"));
      root_told = true;
    }
  }

  void look_for_life() {
    std::vector<int> watched;
    for (int r = 0; r < size(); ++r) {
      if (r != rank && (is_root() || r == 0)) watched.push_back(r);
    }
    std::vector<std::string> keys;
    for (const int r : watched) keys.push_back(beat_key(r));
    const auto found = store->multiGet(keys);
    const auto now = Clock::now();
    const auto since = [&] {
      const std::lock_guard lock(mutex);
      return resumed;
    }();
    for (std::size_t i = 0; i < watched.size(); ++i) {
      const int r = watched[i];
      if (auto beat = from_bytes(found[i]); beat != last_beats[r]) {
        last_beats[r] = std::move(beat);
        beat_changed[r] = now;
      } else if (now - std::max(beat_changed[r], since) > silence) {
        const JobFailure lost{rank, 1, text(processes[r], " no longer answers: it was killed, or it hangs")};
        store->compareSet(kFailure, {}, bytes(encoded(lost)));
        look_for_failure();
        return;
      }
    }
  }

  void answer() {
    std::function<void(c10d::Store&)> taken;
    {
      const std::lock_guard lock(mutex);
      taken = std::exchange(question, nullptr);
    }
    if (!taken) return;
    taken(*store);
    const std::lock_guard lock(mutex);
    ++answered;
    changed.notify_all();
  }

  void talk() {
    try {
      auto next_beat = Clock::now();
      for (;;) {
        answer();
        if (Clock::now() >= next_beat) {
          store->set(beat_key(rank), text(++beats));
          look_for_failure();
          if (!failed()) look_for_life();
          next_beat = Clock::now() + kBeat;
        }
        std::unique_lock lock(mutex);
        last_talk = Clock::now();
        if (stopping) break;
        changed.wait_until(lock, next_beat, [&] { return stopping || question; });
      }
    } catch (const std::exception& e) {
      lose_store(
          text("the connection to the job's store is lost: ", processes[0], " is gone (", one_line(e.what()), ")"));
    }
    const std::lock_guard lock(mutex);
    talker_ended = true;
    changed.notify_all();
  }

  void lose_store(const std::string& reason) {
    {
      const std::lock_guard lock(mutex);
      store_lost = true;
      if (stopping || leaving) return;
    }
    changed.notify_all();
    note({-1, 1, reason}, false);
  }

  void watch() {
    auto last = Clock::now();
    std::unique_lock lock(mutex);
    while (!stopping) {
      changed.wait_for(lock, 250ms, [&] { return stopping; });
      const auto now = Clock::now();
      if (now - last > kSuspended) resumed = now;
      last = now;
      const bool store_hangs = !store_lost && now - std::max(last_talk, resumed) > silence;
      const auto grace = failure && failure->exit_code > 128 ? milliseconds(kGraceAfterSignal) : kGraceAfterFailure;
      const bool overdue = failure && !leaving && now - std::max(failed_at, resumed) > grace;
      if (!store_hangs && !overdue) continue;
      lock.unlock();
      if (store_hangs)
        lose_store(text("the job's store no longer answers: ", processes[0], " was killed, or it hangs"));
      if (overdue) end_process();
      lock.lock();
    }
  }

  [[noreturn]] void end_process() {
    if (is_root() || failure->reporter < 0) log::error(failure->reason);
    std::fflush(nullptr);
    _exit(failure->exit_code);
  }
};

JobWatch::JobWatch(c10::intrusive_ptr<c10d::Store> store, int rank, std::vector<std::string> processes,
                   milliseconds silence)
    : state_(std::make_shared<State>()) {
  state_->store = std::move(store);
  state_->rank = rank;
  state_->last_beats.resize(processes.size());
  state_->beat_changed.resize(processes.size(), Clock::now());
  state_->processes = std::move(processes);
  state_->silence = silence;
  talker_ = std::thread([state = state_] { state->talk(); });
  watcher_ = std::thread([state = state_] { state->watch(); });
}

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

bool JobWatch::ask(std::function<void(c10d::Store&)> question, milliseconds patience) {
  std::unique_lock lock(state_->mutex);
  state_->question = std::move(question);
  const int number = ++state_->asked;
  state_->changed.notify_all();
  return state_->changed.wait_for(lock, patience, [&] { return state_->answered >= number || state_->store_lost; }) &&
         state_->answered >= number;
}

std::optional<JobFailure> JobWatch::publish(const JobFailure& failure) {
  const auto standing = std::make_shared<std::string>();
  const bool answered =
      ask([standing, record = encoded(failure)](
              c10d::Store& store) { *standing = from_bytes(store.compareSet(kFailure, {}, bytes(record))); },
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
    if (!ask([seen](c10d::Store& store) { *seen = store.check({kSeenByRoot}); }, kPatience)) return false;
    if (!*seen) std::this_thread::sleep_for(50ms);
  }
  return *seen;
}

std::vector<std::string> JobWatch::silent_ranks() {
  const auto beats_now = [this]() -> std::optional<std::vector<std::vector<std::uint8_t>>> {
    const auto beats = std::make_shared<std::vector<std::vector<std::uint8_t>>>();
    const auto question = [beats, size = state_->size()](c10d::Store& store) {
      std::vector<std::string> keys;
      for (int r = 0; r < size; ++r) keys.push_back(beat_key(r));
      *beats = store.multiGet(keys);
    };
    if (!ask(question, kPatience)) return std::nullopt;
    return *beats;
  };
  const auto before = beats_now();
  std::this_thread::sleep_for(3 * kBeat);
  const auto after = beats_now();
  if (!before || !after) return {state_->processes[0]};
  std::vector<std::string> silent;
  for (int r = 0; r < state_->size(); ++r) {
    if (r != state_->rank && (*before)[r] == (*after)[r]) silent.push_back(state_->processes[r]);
  }
  return silent;
}

std::int64_t JobWatch::count(const std::string& key, std::int64_t increment) {
  const auto value = std::make_shared<std::atomic<std::int64_t>>(-1);
  ask([=](c10d::Store& store) { *value = store.add(key, increment); }, kPatience);
  return *value;
}

void JobWatch::await_all_done() {
  auto pause = 1ms;
  for (auto done = count(kDone, 1); done < state_->size(); done = count(kDone, 0)) {
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
  auto left = count(kLeft, 1);
  while (serves_store && left >= 0 && left < state_->size() && Clock::now() < until) {
    std::this_thread::sleep_for(10ms);
    left = count(kLeft, 0);
  }
}

}  // namespace epd
