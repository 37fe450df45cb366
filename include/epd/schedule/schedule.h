#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "epd/core/names.h"
#include "epd/schedule/sigma_map.h"

namespace epd {

/// One solver step: from the noise level `cur` down to `next`.
struct Interval {
  double cur, next;
  double dt() const { return next - cur; }
};

/// A grid of noise levels, t[0] = sigma_max > ... > t[N-1] = sigma_min > 0; built valid or not at all. Who asks for it
/// may end at 0, the denoised image itself.
class TimeSteps {
 public:
  enum class Last { kPositive, kMayBeZero };

  /// Throws Error unless there are at least two finite, positive, falling times.
  explicit TimeSteps(std::vector<double> t, Last last = Last::kPositive);

  std::size_t size() const { return t_.size(); }
  std::size_t num_intervals() const { return t_.size() - 1; }
  double operator[](std::size_t i) const { return t_[i]; }
  Interval interval(std::size_t n) const { return {t_[n], t_[n + 1]}; }
  const std::vector<double>& values() const { return t_; }

 private:
  std::vector<double> t_;
};

enum class ScheduleKind { kPolynomial, kLogSnr, kTimeUniform, kDiscrete, kFlowMatch };

inline constexpr NameTable<ScheduleKind, 5> kScheduleNames{{
    {"polynomial", ScheduleKind::kPolynomial},
    {"logsnr", ScheduleKind::kLogSnr},
    {"time_uniform", ScheduleKind::kTimeUniform},
    {"discrete", ScheduleKind::kDiscrete},
    {"flowmatch", ScheduleKind::kFlowMatch},
}};
constexpr const auto& names_of(ScheduleKind) { return kScheduleNames; }

struct ScheduleOptions {
  static constexpr int kMinSteps = 2, kMaxSteps = 1000;

  ScheduleKind kind = ScheduleKind::kPolynomial;
  double rho = 7;  // flowmatch: its shift
  double sigma_min = 0.002, sigma_max = 80;

  /// *this, or throws UsageError naming the field, its value and its bound.
  const ScheduleOptions& validated() const;
};

/// The ends of a schedule where they are not the model's own.
struct SigmaRange {
  std::optional<double> min, max;
};

/// N = num_steps noise levels from sigma_max down to sigma_min, in float64 (method.md "Schedules"; EDM eq. 5 for
/// `polynomial`, DPM-Solver section 3.3 for `logsnr` and `time_uniform`, `discrete` on the model's own clock).
/// `flowmatch`: N - 1 uniform times s of a flow, each shifted to rho s / (1 + (rho - 1) s) (Esser et al. 2024, section
/// 5.3.2), then 0.
/// Throws UsageError for a bad num_steps and for `discrete` without a map.
TimeSteps make_time_steps(const ScheduleOptions& options, int num_steps, const SigmaMap* map = nullptr);

/// The part of a run folder's name: poly7, logsnr, uni1.0, discrete.
std::string schedule_tag(const ScheduleOptions& options);

}  // namespace epd
