#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>

#include "epd/distributed/process_group.h"
#include "epd/files/json.h"
#include "epd/metrics/scores.h"
#include "epd/sampling/sample_options.h"

namespace epd {

struct ScoredSamples {
  Scores scores;
  Json record;  // the scores, and what they depend on
};

/// Scores images as they are drawn. Added in the order in which `fid calc` reads their files, by as many processes,
/// they give the same bits on the CPU.
class SampleScorer {
 public:
  /// Reads the reference before any work is done. Throws Error where it does not fit the detector or the metrics.
  SampleScorer(const ScoreOptions& options, const std::string& dataset_name, at::Device device);

  /// Pixels uint8 [B, H, W, C], C 1 or 3.
  void add(const at::Tensor& pixels);

  /// Called by all processes; the scores are the root's. `source` names the images in the record.
  ScoredSamples finish(ProcessGroup& group, const std::string& source);

 private:
  ScoreOptions options_;
  at::Device device_;
  FeatureSet reference_;
  std::shared_ptr<const Detector> detector_;
  Scorer scorer_;
};

}  // namespace epd
