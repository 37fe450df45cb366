#pragma once

#include "epd/solver/solver.h"

namespace epd {

/// Heun's method, the trapezoidal rule (EDM Algorithm 1): order 2, 2 serial evaluations a step.
///   x_next = x + (t_next - t_cur) (d_cur + d_prime) / 2,  d_prime = d(x + (t_next - t_cur) d_cur, t_next)
class HeunSolver : public Solver {
 public:
  Expression<double> step(PlanBuilder<double>& plan, const Expression<double>& x, const StepPosition& at) override {
    const auto [t_cur, t_next] = at.t;
    const auto d_cur = direction_at(plan, x, at);
    const auto x_euler = plan.state(x + (t_next - t_cur) * d_cur);
    const auto d_prime = (x_euler - plan.denoise(x_euler, t_next)) / t_next;
    return x + 0.5 * (t_next - t_cur) * (d_cur + d_prime);
  }
};

}  // namespace epd
