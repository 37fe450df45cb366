#pragma once

#include <string>
#include <vector>

#include "epd/core/names.h"
#include "epd/schedule/sigma_map.h"
#include "epd/schedule/time_steps.h"

namespace epd {

enum class ScheduleKind { kPolynomial, kLogSnr, kTimeUniform, kDiscrete };

inline constexpr NameTable<ScheduleKind, 4> kScheduleNames{{
    {"polynomial", ScheduleKind::kPolynomial},
    {"logsnr", ScheduleKind::kLogSnr},
    {"time_uniform", ScheduleKind::kTimeUniform},
    {"discrete", ScheduleKind::kDiscrete},
}};
constexpr const auto& names_of(ScheduleKind) { return kScheduleNames; }

struct ScheduleOptions {
  static constexpr int kMinSteps = 2, kMaxSteps = 1000;

  ScheduleKind kind = ScheduleKind::kPolynomial;
  double rho = 7;
  double sigma_min = 0.002, sigma_max = 80;

  /// *this, or throws UsageError naming the field, its value and its bound.
  const ScheduleOptions& validated() const;
};

/// N = num_steps noise levels from sigma_max down to sigma_min, in float64 (method.md "Schedules"; EDM eq. 5 for
/// `polynomial`, DPM-Solver section 3.3 for `logsnr` and `time_uniform`, `discrete` on the model's own clock).
/// Throws UsageError for a bad num_steps and for `discrete` without a map.
TimeSteps make_time_steps(const ScheduleOptions& options, int num_steps, const SigmaMap* map = nullptr);

/// The part of a run folder's name: poly7, logsnr, uni1.0, discrete.
std::string schedule_tag(const ScheduleOptions& options);

}  // namespace epd
