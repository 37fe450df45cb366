#pragma once

#include "epd/solver/solver.h"

namespace epd {

/// Euler's method, which is DDIM in this form (Song et al. 2021a; EDM Appendix B): order 1, 1 evaluation a step.
///   x_next = x + (t_next - t_cur) d_cur
class EulerSolver : public Solver {
 public:
  Expression<double> step(PlanBuilder<double>& plan, const Expression<double>& x, const StepPosition& at) override {
    const auto [t_cur, t_next] = at.t;
    const auto d_cur = direction_at(plan, x, at);
    return x + (t_next - t_cur) * d_cur;
  }
};

}  // namespace epd
