#pragma once

#include "epd/solver/solver.h"

namespace epd {

/// Heun's method, the trapezoidal rule (EDM Algorithm 1): order 2, 2 serial evaluations a step.
///   x_next = x + (t_next - t_cur) (d_cur + d_next) / 2,  d_next = d(x + (t_next - t_cur) d_cur, t_next)
template <class S>
class HeunSolver : public Solver<S> {
 public:
  Expression<S> step(PlanBuilder<S>& plan, const Expression<S>& x, const StepPosition& at) override {
    const S t_next = at.t.next, dt = at.t.dt();
    const auto d_cur = direction_at(plan, x, at);
    const auto x_euler = plan.state(x + dt * d_cur);
    const auto d_next = (x_euler - plan.denoise(x_euler, t_next)) / t_next;
    return x + S(0.5) * dt * (d_cur + d_next);
  }
};

}  // namespace epd
