#pragma once

#include <cmath>

#include "epd/core/names.h"
#include "epd/solver/plan.h"

namespace epd {

/// What stands for the first denoised image without an evaluation: nothing, the image that makes the first direction
/// x / sqrt(1 + t^2), or the mean of the data, which is what a network shows at large t whatever it sees.
enum class Afs { kNo, kAnalytical, kMean };

inline constexpr NameTable<Afs, 3> kAfsNames{{{"False", Afs::kNo}, {"True", Afs::kAnalytical}, {"mean", Afs::kMean}}};

/// Where in the run a step stands.
struct StepPosition {
  Interval t;
  int index = 0;  // 0 .. count - 1
  int count = 1;
  Afs afs = Afs::kNo;  // of this step

  bool is_last() const { return index + 1 == count; }
};

/// The analytical first step (AFS): at large t the data hardly count, and d(x, t) = x / sqrt(1 + t^2) is the direction
/// for unit-variance data, without an evaluation (Dockhorn et al. 2022; EPD section 3.4).
template <class S>
Expression<S> analytical_direction(const Expression<S>& x, double t) {
  return x / S(std::sqrt(1 + t * t));
}

/// D(x; t_cur) as the step sees it: evaluated, or what stands for it.
template <class S>
Expression<S> denoised_at(PlanBuilder<S>& plan, const Expression<S>& x, const StepPosition& at) {
  if (at.afs == Afs::kMean) return plan.mean();
  if (at.afs == Afs::kAnalytical) return x - S(at.t.cur) * analytical_direction(x, at.t.cur);
  return plan.denoise(x, S(at.t.cur));
}

/// d(x, t_cur) = (x - D(x; t_cur)) / t_cur, the slope of the probability-flow ODE (EDM eq. 3), or AFS's.
template <class S>
Expression<S> direction_at(PlanBuilder<S>& plan, const Expression<S>& x, const StepPosition& at) {
  if (at.afs == Afs::kAnalytical) return analytical_direction(x, at.t.cur);
  return (x - denoised_at(plan, x, at)) / S(at.t.cur);
}

}  // namespace epd
