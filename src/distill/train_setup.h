#pragma once

#include <memory>

#include "epd/denoiser/open_model.h"
#include "epd/distill/run_train.h"
#include "epd/distill/trainer.h"
#include "epd/metrics/detector.h"
#include "epd/sampling/conditions.h"

namespace epd {

/// The run with what its chunk, decode_batch and batch_gpu of 0 stand for on its device.
TrainRun with_defaults(TrainRun run);

/// What a trainer is made of, on the run's device. `run` has its defaults filled in.
struct TrainSetup {
  OpenedModel model;
  std::shared_ptr<const Detector> detector;  // of the loss; null where it needs none
  PredictorSpec start;

  explicit TrainSetup(const TrainRun& run);
  TrainSetup(const TrainRun& run, OpenedModel opened);

  /// It refers to the model, which must outlive it.
  Trainer trainer(const TrainRun& run, const std::shared_ptr<const Conditions>& conditions, ProcessGroup& group) const;
};

}  // namespace epd
