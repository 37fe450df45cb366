#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <torch/csrc/distributed/c10d/Store.hpp>
#include <vector>

namespace epd {

/// Why the job ends, as the first rank that noticed wrote it into the job's store. A code of 128 + s means signal s.
/// The reporter is -1 where the store was lost: then nobody else knows.
struct JobFailure {
  int reporter = 0;
  int exit_code = 1;
  std::string reason;
};

/// The keys of the job's store.
namespace job_key {
std::string member(int rank);
std::string arrivals(int rank);
std::string heartbeat(int rank);
}  // namespace job_key

/// From here on exit() ends the process before static destructors run: a thread that was left behind may still hang in
/// Torch's network code.
void skip_static_destructors();

/// Watches over one process's place in its job, beside the work. A thread owns a connection to the job's store: it
/// writes a heartbeat there twice a second, looks for a failure written by another rank, and (the root over all, the
/// others over the root) for ranks without heartbeats. Another thread never touches the network: it notices when the
/// store itself hangs, and ends this process when the work does not stop by itself after a failure of another.
/// A failure seen becomes request_stop() (core/interrupt.h).
class JobWatch {
 public:
  /// `store` is the watch's own connection; `processes[r]` names rank r in messages ("rank 1 (host, process 12)");
  /// `silence`: how long heartbeats may fail to come. The threads end with what is returned; one that hangs in the
  /// network is left behind.
  static std::shared_ptr<JobWatch> start(c10::intrusive_ptr<c10d::Store> store, int rank,
                                         std::vector<std::string> processes, std::chrono::milliseconds silence);

  /// The failure that ends the job, if one becomes known here within `patience`.
  std::optional<JobFailure> failure(std::chrono::milliseconds patience = std::chrono::milliseconds(0)) const;
  /// Writes the failure unless there is one already, and returns the one that counts; nothing if the store is lost.
  std::optional<JobFailure> publish(const JobFailure& failure);
  /// A failing rank other than the root asks whether the root has seen it and will print the reason.
  bool root_will_report();

  /// Names of the ranks without a heartbeat within the next second and a half.
  std::vector<std::string> silent_ranks();
  /// Waits until every rank has ended its work well. Returns early when a failure is known or a signal pends.
  void await_all_done();
  /// The last word to the store. The process that serves it waits a moment for the others to say theirs.
  void shutdown(bool serves_store);

 private:
  using Clock = std::chrono::steady_clock;
  using Question = std::function<void(c10d::Store&)>;

  JobWatch(c10::intrusive_ptr<c10d::Store> store, int rank, std::vector<std::string> processes,
           std::chrono::milliseconds silence);
  void stop();

  void store_loop();
  void watchdog();
  void answer_question();
  void look_for_failure();
  void check_heartbeats();
  void note(const JobFailure& found, bool own);
  void lose_store(const std::string& reason);
  [[noreturn]] void end_process();

  bool ask(Question question, std::chrono::milliseconds patience);
  std::int64_t count(const std::string& key, std::int64_t increment, std::chrono::milliseconds patience);
  int size() const { return static_cast<int>(processes_.size()); }

  const c10::intrusive_ptr<c10d::Store> store_;
  const int rank_;
  const std::vector<std::string> processes_;
  const std::chrono::milliseconds silence_;
  std::thread store_thread_, watchdog_thread_;

  mutable std::mutex mutex_;  // guards what follows
  mutable std::condition_variable changed_;
  std::optional<JobFailure> failure_;
  Question question_;  // put by ask(), taken by the store's thread
  int asked_ = 0, answered_ = 0;
  bool stopping_ = false, leaving_ = false, store_thread_ended_ = false, store_lost_ = false;
  Clock::time_point failed_at_, last_talk_ = Clock::now(), resumed_ = Clock::now();

  // The store thread's own.
  std::vector<std::vector<std::uint8_t>> last_beats_;
  std::vector<Clock::time_point> beat_changed_;
  std::int64_t beats_ = 0;
  bool root_told_ = false;
};

}  // namespace epd
