#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <torch/csrc/distributed/c10d/Store.hpp>
#include <vector>

#include "job_failure.h"

namespace epd {

/// What a JobWatch's two threads share with the process's own, and what they do. It outlives the watch where a thread
/// hangs in the network.
class WatchState {
 public:
  using Clock = std::chrono::steady_clock;

  WatchState(c10::intrusive_ptr<c10d::Store> store, int rank, std::vector<std::string> processes,
             std::chrono::milliseconds silence);

  /// The thread that owns the connection: signs of life, failures of others, questions put to the store.
  void talk();
  /// The thread that never touches the network.
  void watch();
  /// Takes down why the job ends; the work is told unless it is the one that said so.
  void note(const JobFailure& found, bool own);

  const int rank;
  const std::vector<std::string> processes;

  mutable std::mutex mutex;  // guards what follows
  mutable std::condition_variable changed;
  std::optional<JobFailure> failure;
  std::function<void(c10d::Store&)> question;  // put by JobWatch::ask, taken by talk()
  int asked = 0, answered = 0;
  bool stopping = false, leaving = false, talker_ended = false, store_lost = false;

 private:
  bool is_root() const { return rank == 0; }
  bool failed() const;
  Clock::time_point resumed_at() const;
  void look_for_failure();
  void look_for_life();
  void answer();
  void lose_store(const std::string& reason);
  [[noreturn]] void end_process();

  const c10::intrusive_ptr<c10d::Store> store_;
  const std::chrono::milliseconds silence_;
  Clock::time_point failed_at_, last_talk_ = Clock::now(), resumed_ = Clock::now();  // under the mutex too

  // The talking thread's own.
  std::vector<std::string> last_beats_;
  std::vector<Clock::time_point> beat_changed_;
  std::int64_t beats_ = 0;
  bool root_told_ = false;
};

}  // namespace epd
