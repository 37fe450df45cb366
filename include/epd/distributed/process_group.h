#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace epd {

/// The processes of one job ("ranks" 0 to size - 1), and what they do together. One process alone is a working group of
/// one that touches no network, so nobody asks whether there are others.
///
/// Every collective is called by all ranks in the same order, and carries a name: when one fails, the error says which
/// it was and, where it is known, which rank is to blame. A rank that fails, is killed or stops answering ends the
/// whole job within 30 seconds: its reason is passed on through the job's store, and a thread of each process watches
/// for it, so ranks that share no collective (sampling) stop as well, at their next check_interrupt().
///
///     return run_main([&] {
///       const auto group = ProcessGroup::from_environment();
///       group->run([&] {
///         group->use_device(device, device_identity(device));
///         train(options, *group);
///       });
///     });
class ProcessGroup {
 public:
  /// How long a collective waits for the slowest rank. Long, since ranks need not be equally fast and one that dies or
  /// hangs is noticed otherwise (above). How long the ranks wait for each other to join is RankEnvironment's.
  static constexpr std::chrono::milliseconds kDefaultTimeout = std::chrono::hours(24);

  /// The group that the environment describes (environment.h: torchrun, Slurm, Open MPI; none of them: a group of one).
  /// Waits until all ranks have joined. Collectives are Gloo's, over the CPU; see use_device. Throws UsageError for
  /// variables that do not fit together, Error where the others cannot be reached.
  static std::shared_ptr<ProcessGroup> from_environment(std::chrono::milliseconds timeout = kDefaultTimeout);
  /// A group of one.
  static std::shared_ptr<ProcessGroup> alone();

  virtual ~ProcessGroup() = default;
  ProcessGroup(const ProcessGroup&) = delete;
  ProcessGroup& operator=(const ProcessGroup&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }
  bool is_root() const { return rank_ == 0; }

  /// Runs the work of the job. An exception is first told to the other ranks, then thrown on, as Error; it is
  /// AlreadyReported where another rank prints the reason. After good work it waits for the others to end theirs.
  virtual void run(const std::function<void()>& work) = 0;

  /// The device that this rank computes on; called by all ranks, with one kind of device and a card each. From here on
  /// collectives on CUDA tensors are NCCL's, which connects now; on tensors of another device they stay Gloo's. `card`
  /// is a text that two processes of a machine share only where they compute on the same card. Throws UsageError where
  /// two ranks do, or where their devices are of different kinds.
  virtual void use_device(at::Device device, const std::string& card) = 0;

  /// tensor := its sum over all ranks, in place; float64, float32 or int64, any shape, the same on every rank.
  /// The order of the sum depends on the number of ranks only, and all ranks get the same bits.
  virtual void all_reduce_sum(at::Tensor& tensor, const std::string& name) = 0;
  /// tensor := that of `root`, in place.
  virtual void broadcast(at::Tensor& tensor, int root, const std::string& name) = 0;
  /// Returns once every rank has arrived.
  virtual void barrier(const std::string& name) = 0;
  /// The root's bytes, on every rank.
  virtual std::string broadcast_bytes(std::string bytes, const std::string& name) = 0;
  /// Every rank's bytes (lengths may differ) in order of rank, on every rank.
  virtual std::vector<std::string> all_gather_bytes(std::string bytes, const std::string& name) = 0;
  /// The same on the root; empty on the others.
  virtual std::vector<std::string> gather_bytes(std::string bytes, const std::string& name) = 0;

  /// Throws on every rank unless all ranks hold the same `value` of `what` (options, the hash of a model).
  void require_same(const std::string& what, const std::string& value);
  /// check_interrupt() of all ranks at once: a signal to any of them stops all of them at this same point.
  virtual void check_interrupt() = 0;

 protected:
  ProcessGroup(int rank, int size) : rank_(rank), size_(size) {}

 private:
  const int rank_, size_;
};

/// Work that all processes of a job do alike before they join it, such as reading the command line: what goes wrong is
/// reported by the first process of each machine only. Throws what the work throws, as AlreadyReported on the others.
void report_once(const std::function<void()>& work);

/// What the launcher keeps for this job while it restarts its processes (torchrun --max_restarts: its own store
/// outlives them): the value that an earlier attempt remembered. Nothing where there was none, or where another
/// launcher started the job. For the root. Throws Error where the launcher's store does not answer.
std::optional<std::string> recall(const std::string& key);
void remember(const std::string& key, const std::string& value);

}  // namespace epd
