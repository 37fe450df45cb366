#pragma once

#include <cstdint>
#include <memory>

#include "epd/distill/loss.h"
#include "epd/distill/teacher.h"
#include "epd/distributed/process_group.h"

namespace epd {

/// How well a student does on images that training never sees.
class Validation {
 public:
  /// The first `num_images` of the source, of which each process draws its share, `at_once` at a time (0: all of them).
  Validation(std::unique_ptr<TrajectorySource> source, std::int64_t num_images, std::int64_t at_once,
             const Denoiser& denoiser, ProcessGroup& group);

  /// The mean loss of the plan's end states: the same to the bit for any number of processes. Called by all of them.
  double loss_of(const Plan<double>& plan, const Loss& loss);

 private:
  std::unique_ptr<TrajectorySource> source_;
  std::int64_t num_images_, at_once_;
  const Denoiser& denoiser_;
  ProcessGroup& group_;
};

}  // namespace epd
