#pragma once

#include "epd/denoiser/open_model.h"
#include "epd/distill/run_train.h"
#include "epd/files/json.h"
#include "epd/metrics/detector.h"

namespace epd {

/// What the run's predictor depends on, one field each: two runs with equal records end with the same bits. It is the
/// options that decide the result, and what was found out about the model, the loss's detector (null without one) and
/// this machine.
Json train_record(TrainRun run, const PredictorSpec& start, const OpenedModel& model, const Detector* detector);

}  // namespace epd
