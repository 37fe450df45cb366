#pragma once

#include <ATen/ATen.h>

#include <filesystem>
#include <optional>
#include <string>

#include "epd/distill/trainer.h"
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

/// The student's images above the teacher's, from the same latents: [B, C, H, W] each, in about [-1, 1].
void write_preview(const std::filesystem::path& path, const at::Tensor& student, const at::Tensor& teacher);

/// The largest memory that the process has held, in GiB.
double peak_memory_gib();

}  // namespace epd
