#pragma once

#include <ATen/ATen.h>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>

#include "epd/distill/run_train.h"
#include "epd/distill/trainer.h"
#include "epd/files/file_lock.h"
#include "epd/solver/predictor_spec.h"

namespace epd {

/// What a tick of training found, for stats.jsonl.
struct TickStats {
  std::int64_t tick = 0, iteration = 0;
  double kimg = 0, seconds = 0, seconds_per_kimg = 0;
  IterationReport last;  // losses are means over the tick
  std::optional<double> frechet_distance;
};

/// The line of stats.jsonl: progress, losses, cost, and the learned coefficients of every step.
std::string stats_line(const TickStats& stats, const PredictorSpec& predictor);

/// stats.jsonl without the lines after `iteration` (of work that was lost with the process that did it).
void trim_stats(const std::filesystem::path& path, std::int64_t iteration);

/// The folder in run.outdir whose state was written last, of the unfinished runs with this record (train_record.h);
/// with --nosubdir the outdir itself, where it holds a run. Empty where there is none. For --resume auto.
std::filesystem::path find_unfinished_run(const TrainRun& run, const std::string& record);

/// Throws UsageError, naming the first difference, where the folder's run has another record and cannot go on as `run`:
/// it may be made longer or shorter by --total_kimg where what it has learned so far would be the same.
void require_same_run(const TrainRun& run, const std::filesystem::path& folder, const std::string& record);

/// A run's folder, in which it stands alone, and its clock. All processes have one; only the root's writes.
class RunFolder {
 public:
  RunFolder(std::filesystem::path path, bool writes, std::string fingerprint);
  /// Removes a folder that has not begun.
  ~RunFolder();
  RunFolder(const RunFolder&) = delete;
  RunFolder& operator=(const RunFolder&) = delete;

  /// Begins a run: its first state and options are there before the folder of new_run_dir gets its name. Called by all.
  void begin(const Trainer& trainer, const TrainRun& run, const std::string& name, ProcessGroup& group);

  /// Puts the trainer where the folder's state left it. Nothing happens in a folder without one.
  /// Throws UsageError where the state is of another run (require_same_run).
  void resume(Trainer& trainer, const TrainRun& run);

  void write_options(const std::string& json) const;
  void write_state(const Trainer& trainer) const;
  void write_predictor(const PredictorSpec& predictor, const std::string& name) const;
  void append_stats(const TickStats& stats, const PredictorSpec& predictor) const;
  /// The student's images above the teacher's, from the same latents: [B, C, H, W] each, in about [-1, 1].
  void write_preview(const at::Tensor& student, const at::Tensor& teacher) const;

  /// How long the run has worked, before it was resumed too.
  double seconds() const;
  const std::filesystem::path& path() const { return path_; }
  bool writes() const { return writes_; }

 private:
  std::filesystem::path path_;
  bool writes_;
  std::string fingerprint_;
  std::optional<FolderLock> lock_;
  double seconds_before_ = 0;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

/// Gathers the losses of a tick and does what is due at its end. A tick is the fewest iterations that make its kimg;
/// the last one may be shorter.
class Ticks {
 public:
  /// The Frechet distance of a student; called by all processes.
  using Evaluate = std::function<double(const PredictorSpec& student)>;

  /// The first tick begins where the trainer stands. `evaluate` is empty where nothing is evaluated.
  Ticks(const TrainRun& run, const RunFolder& folder, Evaluate evaluate, const Trainer& trainer);

  /// Called after every iteration, with its report.
  void after(const IterationReport& report, const Trainer& trainer);

 private:
  double kimg_of(const Trainer& trainer) const;
  void add(const IterationReport& report);
  void end(const Trainer& trainer);
  TickStats stats_of(const Trainer& trainer) const;

  const TrainRun& run_;
  const RunFolder& folder_;
  Evaluate evaluate_;
  std::int64_t iterations_a_tick_;
  double start_kimg_, start_seconds_;  // of the tick
  IterationReport sum_;                // losses and non-finite gradients over the tick, else the last iteration's
  std::int64_t iterations_ = 0;
};

}  // namespace epd
