#pragma once

#include <memory>
#include <vector>

#include "epd/denoiser/open_model.h"
#include "epd/distill/run_train.h"
#include "epd/metrics/detector.h"
#include "epd/metrics/statistics.h"
#include "epd/sampling/conditions.h"

namespace epd {

/// The Frechet distance of a student to a reference, on seeds of its own: what `sample --fid` finds with its predictor.
class Evaluator {
 public:
  /// Reads the reference and the detector before any work is done. Throws Error where they do not fit.
  Evaluator(const TrainRun& run, OpenedModel model, std::shared_ptr<const Conditions> conditions, ProcessGroup& group);

  /// Called by all processes, each of which draws its share. The student's training is not touched.
  double distance(const PredictorSpec& student) const;

 private:
  const TrainRun& run_;
  const OpenedModel model_;
  const std::shared_ptr<const Conditions> conditions_;
  ProcessGroup& group_;
  Statistics reference_;
  std::shared_ptr<const Detector> detector_;
  std::vector<std::uint64_t> mine_;
};

}  // namespace epd
