#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <torch/csrc/distributed/c10d/Store.hpp>
#include <vector>

#include "job_failure.h"

namespace epd {

class WatchState;

/// Watches over one process's place in its job, beside the work. One thread owns a connection to the job's store: it
/// leaves a sign of life there twice a second, looks for a failure written by another rank, and (the root over all, the
/// others over the root) for ranks that no longer show life. Another thread never touches the network: it notices when
/// the store itself hangs, and ends this process when the work does not stop by itself after a failure of another.
/// A failure seen becomes request_stop() (core/interrupt.h).
class JobWatch {
 public:
  /// `store` is this watch's own connection; `processes[r]` names rank r in messages ("rank 1 (host, process 12)").
  /// `silence`: how long a rank may show no life.
  JobWatch(c10::intrusive_ptr<c10d::Store> store, int rank, std::vector<std::string> processes,
           std::chrono::milliseconds silence);
  /// Ends the threads; one that hangs in the network is left behind.
  ~JobWatch();
  JobWatch(const JobWatch&) = delete;
  JobWatch& operator=(const JobWatch&) = delete;

  /// The failure that ends the job, once known here.
  std::optional<JobFailure> failure() const;
  /// Waits up to `patience` for one.
  std::optional<JobFailure> await_failure(std::chrono::milliseconds patience) const;
  /// Writes the failure unless there is one already, and returns the one that stands; nothing if the store is lost.
  std::optional<JobFailure> publish(const JobFailure& failure);
  /// A failing rank other than the root asks whether the root has seen it and will print the reason.
  bool root_will_report();

  /// Names of the ranks that show no life within the next second and a half.
  std::vector<std::string> silent_ranks();
  /// Waits until every rank has ended its work well. Returns early when a failure is known or a signal pends.
  void await_all_done();
  /// The last word to the store. The process that serves it waits a moment for the others to say theirs.
  void leave(bool serves_store);

 private:
  bool ask(std::function<void(c10d::Store&)> question, std::chrono::milliseconds patience);
  int size() const;
  std::int64_t count(const std::string& key, std::int64_t increment, std::chrono::milliseconds patience);

  const std::shared_ptr<WatchState> state_;
  std::thread talker_, watcher_;
};

}  // namespace epd
