#pragma once

#include <cmath>

#include "epd/solver/solver.h"

namespace epd {

/// DPM-Solver-2 in EDM's form (Lu et al. 2022, Algorithm 1): order 2, 2 serial evaluations a step.
///   t_mid = t_next^r t_cur^(1-r),  x_mid = x + (t_mid - t_cur) d_cur
///   x_next = x + (t_next - t_cur) (d_mid / (2r) + (1 - 1/(2r)) d_cur)
template <class S>
class Dpm2Solver : public Solver<S> {
 public:
  explicit Dpm2Solver(double r = 0.5) : r_(r) {}

  Expression<S> step(PlanBuilder<S>& plan, const Expression<S>& x, const StepPosition& at) override {
    const double t_mid = std::pow(at.t.next, r_) * std::pow(at.t.cur, 1 - r_);
    const auto d_cur = direction_at(plan, x, at);
    const auto x_mid = plan.state(x + S(t_mid - at.t.cur) * d_cur);
    const auto d_mid = (x_mid - plan.denoise(x_mid, S(t_mid))) / S(t_mid);
    const double share = 1 / (2 * r_);
    return x + S(at.t.dt()) * (S(share) * d_mid + S(1 - share) * d_cur);
  }

 private:
  double r_;
};

}  // namespace epd
