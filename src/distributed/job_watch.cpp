#include "job_watch.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>

#include "epd/core/error.h"
#include "epd/core/interrupt.h"
#include "epd/core/log.h"
#include "epd/core/run_main.h"

namespace epd {
namespace {

using namespace std::chrono_literals;
using std::chrono::milliseconds;
using Bytes = std::vector<std::uint8_t>;

constexpr auto kBeat = 500ms, kThreeBeats = 1500ms;
/// A watchdog that slept this long was suspended with the whole process (Ctrl-Z): nobody is to blame.
constexpr auto kSuspended = 3s;
/// How long the work may go on after a failure elsewhere, and after a signal elsewhere, before the process is ended.
constexpr milliseconds kGraceAfterFailure = 8s, kGraceAfterSignal = 25s;
/// How long the store, or the root, may take to answer.
constexpr auto kPatience = 3s;
/// For answers without which nothing goes on: a store that hangs is noticed by the watchdog before.
constexpr auto kEndless = 24h;

const std::string kFailure = "failure", kSeenByRoot = "seen_by_root", kDone = "done", kLeft = "left";

Bytes encoded(const JobFailure& failure) {
  const auto record = text(failure.reporter, ' ', failure.exit_code, ' ', failure.reason);
  return {record.begin(), record.end()};
}

JobFailure decoded(const Bytes& record) {
  JobFailure failure;
  auto in = stream_of({record.begin(), record.end()});
  in >> failure.reporter >> failure.exit_code;
  in.get();
  std::getline(in, failure.reason, '\0');
  return failure;
}

}  // namespace

std::string job_key::member(int rank) { return text("member/", rank); }
std::string job_key::arrivals(int rank) { return text("arrivals/", rank); }
std::string job_key::heartbeat(int rank) { return text("beat/", rank); }

void skip_static_destructors() {
  on_exit(
      [](int status, void*) {
        std::fflush(nullptr);
        _exit(status);
      },
      nullptr);
}

std::shared_ptr<JobWatch> JobWatch::start(c10::intrusive_ptr<c10d::Store> store, int rank,
                                          std::vector<std::string> processes, milliseconds silence) {
  // Each thread owns the watch too, so it outlives its user where a thread hangs in the network.
  const std::shared_ptr<JobWatch> watch(new JobWatch(std::move(store), rank, std::move(processes), silence));
  watch->store_thread_ = std::thread([watch] { watch->store_loop(); });
  watch->watchdog_thread_ = std::thread([watch] { watch->watchdog(); });
  return {watch.get(), [watch](JobWatch*) { watch->stop(); }};
}

JobWatch::JobWatch(c10::intrusive_ptr<c10d::Store> store, int rank, std::vector<std::string> processes,
                   milliseconds silence)
    : store_(std::move(store)),
      rank_(rank),
      processes_(std::move(processes)),
      silence_(silence),
      last_beats_(processes_.size()),
      beat_changed_(processes_.size(), Clock::now()) {}

void JobWatch::stop() {
  std::unique_lock lock(mutex_);
  stopping_ = true;
  changed_.notify_all();
  const bool ended = changed_.wait_for(lock, kPatience, [&] { return store_thread_ended_; });
  lock.unlock();
  watchdog_thread_.join();
  ended ? store_thread_.join() : store_thread_.detach();
}

void JobWatch::store_loop() {
  try {
    auto next_beat = Clock::now();
    for (;;) {
      answer_question();
      if (Clock::now() >= next_beat) {
        store_->set(job_key::heartbeat(rank_), text(++beats_));
        look_for_failure();
        if (!failure()) check_heartbeats();
        next_beat = Clock::now() + kBeat;
      }
      std::unique_lock lock(mutex_);
      last_talk_ = Clock::now();
      if (stopping_) break;
      changed_.wait_until(lock, next_beat, [&] { return stopping_ || question_; });
    }
  } catch (const std::exception& e) {
    lose_store(
        text("the connection to the job's store is lost: ", processes_[0], " is gone (", one_line(e.what()), ")"));
  }
  const std::lock_guard lock(mutex_);
  store_thread_ended_ = true;
  changed_.notify_all();
}

void JobWatch::answer_question() {
  Question taken;
  {
    const std::lock_guard lock(mutex_);
    taken = std::exchange(question_, nullptr);
  }
  if (!taken) return;
  taken(*store_);
  const std::lock_guard lock(mutex_);
  ++answered_;
  changed_.notify_all();
}

void JobWatch::look_for_failure() {
  if (!store_->check({kFailure})) return;
  note(decoded(store_->get(kFailure)), false);
  if (rank_ != 0 || std::exchange(root_told_, true)) return;
  store_->set(kSeenByRoot, std::string("1"));
}

void JobWatch::check_heartbeats() {
  std::vector<int> watched;
  std::vector<std::string> keys;
  for (int r = 0; r < (rank_ == 0 ? size() : 1); ++r) {
    if (r == rank_) continue;
    watched.push_back(r);
    keys.push_back(job_key::heartbeat(r));
  }
  const auto found = store_->multiGet(keys);
  const auto now = Clock::now();
  const auto resumed = (std::lock_guard(mutex_), resumed_);
  for (std::size_t i = 0; i < watched.size(); ++i) {
    const int r = watched[i];
    if (found[i] != last_beats_[r]) {
      last_beats_[r] = found[i];
      beat_changed_[r] = now;
    } else if (now - std::max(beat_changed_[r], resumed) > silence_) {
      const JobFailure lost{rank_, 1, text(processes_[r], " does not respond: killed or hanging")};
      store_->compareSet(kFailure, {}, encoded(lost));
      return look_for_failure();
    }
  }
}

void JobWatch::watchdog() {
  auto last = Clock::now();
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    changed_.wait_for(lock, 250ms, [&] { return stopping_; });
    const auto now = Clock::now();
    if (now - last > kSuspended) resumed_ = now;
    last = now;
    const bool store_hangs = !store_lost_ && now - std::max(last_talk_, resumed_) > silence_;
    const auto grace = failure_ && failure_->exit_code > 128 ? kGraceAfterSignal : kGraceAfterFailure;
    const bool overdue = failure_ && !leaving_ && now - std::max(failed_at_, resumed_) > grace;
    lock.unlock();
    if (store_hangs) lose_store(text("the job's store no longer answers: ", processes_[0], " was killed, or it hangs"));
    if (overdue) end_process();
    lock.lock();
  }
}

/// Takes down why the job ends; the work is told unless it is the one that said so.
void JobWatch::note(const JobFailure& found, bool own) {
  {
    const std::lock_guard lock(mutex_);
    if (failure_) return;
    failure_ = found;
    failed_at_ = Clock::now();
  }
  changed_.notify_all();
  if (own) return;
  found.exit_code > 128 ? request_stop(found.exit_code - 128) : request_stop(found.reason);
}

void JobWatch::lose_store(const std::string& reason) {
  {
    const std::lock_guard lock(mutex_);
    store_lost_ = true;
    changed_.notify_all();
    if (stopping_ || leaving_) return;
  }
  note({-1, 1, reason}, false);
}

void JobWatch::end_process() {
  if (rank_ == 0 || failure_->reporter < 0) log::error(failure_->reason);
  std::fflush(nullptr);
  _exit(failure_->exit_code);
}

std::optional<JobFailure> JobWatch::failure(milliseconds patience) const {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, patience, [&] { return failure_.has_value(); });
  return failure_;
}

/// Has the store's thread put the question; false where no answer came in time.
bool JobWatch::ask(Question question, milliseconds patience) {
  std::unique_lock lock(mutex_);
  question_ = std::move(question);
  const int number = ++asked_;
  changed_.notify_all();
  changed_.wait_for(lock, patience, [&] { return answered_ >= number || store_lost_; });
  return answered_ >= number;
}

std::optional<JobFailure> JobWatch::publish(const JobFailure& failure) {
  const auto first = std::make_shared<Bytes>();  // shared with a question that may be answered too late
  const auto question = [first, record = encoded(failure)](c10d::Store& store) {
    *first = store.compareSet(kFailure, {}, record);
  };
  if (!ask(question, kPatience)) return std::nullopt;
  const auto result = decoded(*first);
  note(result, result.reporter == failure.reporter);
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
  std::vector<std::string> keys;
  for (int r = 0; r < size(); ++r) keys.push_back(job_key::heartbeat(r));
  const auto heartbeats = [&]() -> std::vector<Bytes> {
    const auto found = std::make_shared<std::vector<Bytes>>();
    if (!ask([found, keys](c10d::Store& store) { *found = store.multiGet(keys); }, kPatience)) return {};
    return *found;
  };
  const auto before = heartbeats();
  std::this_thread::sleep_for(kThreeBeats);
  const auto after = heartbeats();
  if (before.empty() || after.empty()) return {processes_[0]};
  std::vector<std::string> silent;
  for (int r = 0; r < size(); ++r) {
    if (r != rank_ && before[r] == after[r]) silent.push_back(processes_[r]);
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
  for (auto done = count(kDone, 1, kEndless); done < size(); done = count(kDone, 0, kEndless)) {
    if (stop_requested() || failure()) return;
    std::this_thread::sleep_for(pause);
    pause = std::min(pause * 2, milliseconds(100));
  }
}

void JobWatch::shutdown(bool serves_store) {
  {
    const std::lock_guard lock(mutex_);
    leaving_ = true;
    if (store_lost_) return;
  }
  const auto until = Clock::now() + kPatience;
  auto left = count(kLeft, 1, kPatience);
  while (serves_store && left >= 0 && left < size() && Clock::now() < until) {
    std::this_thread::sleep_for(10ms);
    left = count(kLeft, 0, kPatience);
  }
}

}  // namespace epd
