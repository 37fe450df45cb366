#pragma once

#include <chrono>
#include <filesystem>
#include <optional>
#include <string>

#include "epd/distill/run_files.h"
#include "epd/distill/trainer.h"
#include "epd/files/file_lock.h"

namespace epd {

/// A run's folder, in which it stands alone, and its clock. All processes have one; only the root's writes.
class RunRecord {
 public:
  RunRecord(std::filesystem::path folder, bool writes, std::string fingerprint);

  /// Puts the trainer where the folder's state left it. Nothing happens in a folder without one.
  /// Throws UsageError where the state is of a run with another fingerprint.
  void resume(Trainer& trainer);

  void write_options(const std::string& json) const;
  void write_state(const Trainer& trainer) const;
  void write_predictor(const PredictorSpec& predictor, const std::string& name) const;
  void write_stats(const TickStats& stats, const PredictorSpec& predictor) const;

  /// How long the run has worked, before it was resumed too.
  double seconds() const;
  const std::filesystem::path& folder() const { return folder_; }
  bool writes() const { return writes_; }

 private:
  std::filesystem::path folder_;
  bool writes_;
  std::string fingerprint_;
  std::optional<FolderLock> lock_;
  double seconds_before_ = 0;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace epd
