#pragma once

#include <cmath>

#include "epd/solver/solver.h"

namespace epd {

/// DPM-Solver-2 in EDM's form (Lu et al. 2022, Algorithm 1): order 2, 2 serial evaluations a step. With r = 1/2:
///   t_mid = t_next^r t_cur^(1-r),  x_mid = x + (t_mid - t_cur) d_cur
///   x_next = x + (t_next - t_cur) (d_mid / (2r) + (1 - 1/(2r)) d_cur)
class Dpm2Solver : public Solver {
 public:
  Expression<double> step(PlanBuilder<double>& plan, const Expression<double>& x, const StepPosition& at) override {
    constexpr double r = 0.5;
    const auto [t_cur, t_next] = at.t;
    const double t_mid = std::pow(t_next, r) * std::pow(t_cur, 1 - r);
    const auto d_cur = direction_at(plan, x, at);
    const auto x_mid = plan.state(x + (t_mid - t_cur) * d_cur);
    const auto d_mid = (x_mid - plan.denoise(x_mid, t_mid)) / t_mid;
    return x + (t_next - t_cur) * (1 / (2 * r) * d_mid + (1 - 1 / (2 * r)) * d_cur);
  }
};

}  // namespace epd
