#include "watch_state.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "epd/core/error.h"
#include "epd/core/interrupt.h"
#include "epd/core/log.h"
#include "epd/core/run_main.h"

namespace epd {
namespace {

using namespace std::chrono_literals;
using std::chrono::milliseconds;

constexpr auto kBeat = 500ms;
/// A watching thread that slept this long was suspended with the whole process (Ctrl-Z): nobody is to blame.
constexpr auto kSuspended = 3s;
/// How long the work may go on after a failure elsewhere, and after a signal elsewhere, before the process is ended.
constexpr milliseconds kGraceAfterFailure = 8s, kGraceAfterSignal = 25s;

}  // namespace

WatchState::WatchState(c10::intrusive_ptr<c10d::Store> store, int rank_, std::vector<std::string> processes_,
                       milliseconds silence)
    : rank(rank_),
      processes(std::move(processes_)),
      store_(std::move(store)),
      silence_(silence),
      last_beats_(processes.size()),
      beat_changed_(processes.size(), Clock::now()) {}

bool WatchState::failed() const {
  const std::lock_guard lock(mutex);
  return failure.has_value();
}

WatchState::Clock::time_point WatchState::resumed_at() const {
  const std::lock_guard lock(mutex);
  return resumed_;
}

void WatchState::note(const JobFailure& found, bool own) {
  {
    const std::lock_guard lock(mutex);
    if (failure) return;
    failure = found;
    failed_at_ = Clock::now();
  }
  changed.notify_all();
  if (own) return;
  if (found.exit_code > 128) {
    request_stop(found.exit_code - 128);
  } else {
    request_stop(found.reason);
  }
}

void WatchState::look_for_failure() {
  if (!store_->check({job_key::kFailure})) return;
  note(decoded(store_->get(job_key::kFailure)), false);
  if (is_root() && !root_told_) {
    store_->set(job_key::kSeenByRoot, std::string("1"));
    root_told_ = true;
  }
}

void WatchState::look_for_life() {
  std::vector<int> watched;
  for (int r = 0; r < static_cast<int>(processes.size()); ++r) {
    if (r != rank && (is_root() || r == 0)) watched.push_back(r);
  }
  std::vector<std::string> keys;
  for (const int r : watched) keys.push_back(job_key::beat(r));
  const auto found = store_->multiGet(keys);
  const auto now = Clock::now();
  const auto since = resumed_at();
  for (std::size_t i = 0; i < watched.size(); ++i) {
    const int r = watched[i];
    if (std::string beat(found[i].begin(), found[i].end()); beat != last_beats_[r]) {
      last_beats_[r] = std::move(beat);
      beat_changed_[r] = now;
    } else if (now - std::max(beat_changed_[r], since) > silence_) {
      const JobFailure lost{rank, 1, text(processes[r], " no longer answers: it was killed, or it hangs")};
      store_->compareSet(job_key::kFailure, {}, encoded(lost));
      look_for_failure();
      return;
    }
  }
}

void WatchState::answer() {
  std::function<void(c10d::Store&)> taken;
  {
    const std::lock_guard lock(mutex);
    taken = std::exchange(question, nullptr);
  }
  if (!taken) return;
  taken(*store_);
  const std::lock_guard lock(mutex);
  ++answered;
  changed.notify_all();
}

void WatchState::talk() {
  try {
    auto next_beat = Clock::now();
    for (;;) {
      answer();
      if (Clock::now() >= next_beat) {
        store_->set(job_key::beat(rank), text(++beats_));
        look_for_failure();
        if (!failed()) look_for_life();
        next_beat = Clock::now() + kBeat;
      }
      std::unique_lock lock(mutex);
      last_talk_ = Clock::now();
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

void WatchState::lose_store(const std::string& reason) {
  {
    const std::lock_guard lock(mutex);
    store_lost = true;
    changed.notify_all();
    if (stopping || leaving) return;
  }
  note({-1, 1, reason}, false);
}

void WatchState::watch() {
  auto last = Clock::now();
  std::unique_lock lock(mutex);
  while (!stopping) {
    changed.wait_for(lock, 250ms, [&] { return stopping; });
    const auto now = Clock::now();
    if (now - last > kSuspended) resumed_ = now;
    last = now;
    const bool store_hangs = !store_lost && now - std::max(last_talk_, resumed_) > silence_;
    const auto grace = failure && failure->exit_code > 128 ? kGraceAfterSignal : kGraceAfterFailure;
    const bool overdue = failure && !leaving && now - std::max(failed_at_, resumed_) > grace;
    if (!store_hangs && !overdue) continue;
    lock.unlock();
    if (store_hangs) lose_store(text("the job's store no longer answers: ", processes[0], " was killed, or it hangs"));
    if (overdue) end_process();
    lock.lock();
  }
}

void WatchState::end_process() {
  if (is_root() || failure->reporter < 0) log::error(failure->reason);
  std::fflush(nullptr);
  _exit(failure->exit_code);
}

}  // namespace epd
