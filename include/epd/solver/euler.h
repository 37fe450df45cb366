#pragma once

#include "epd/solver/solver.h"

namespace epd {

/// Euler's method, which is DDIM in this form (Song et al. 2021a; EDM Appendix B): order 1, 1 evaluation a step.
///   x_next = x + (t_next - t_cur) d_cur
template <class S>
class EulerSolver : public Solver<S> {
 public:
  Expression<S> step(PlanBuilder<S>& plan, const Expression<S>& x, const StepPosition& at) override {
    return x + S(at.t.dt()) * direction_at(plan, x, at);
  }
};

}  // namespace epd
