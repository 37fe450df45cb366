#pragma once

#include <cstdint>
#include <string>

#include "epd/denoiser/open_model.h"
#include "epd/distill/train_options.h"

namespace epd {

/// Everything that a run's result depends on, a field a line: two runs with equal fingerprints end with the same bits.
/// `start` is the student before it has learned anything.
std::string fingerprint_of(const TrainOptions& options, const PredictorSpec& start, const OpenedModel& model,
                           const std::string& detector_sha256, std::int64_t chunk);

/// The first line in which two fingerprints differ, for an error's text.
std::string first_difference(const std::string& before, const std::string& now);

}  // namespace epd
