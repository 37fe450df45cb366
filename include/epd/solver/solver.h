#pragma once

#include "epd/solver/direction.h"
#include "epd/solver/plan.h"

namespace epd {

/// A deterministic ODE solver: it writes the instructions of one step at a time. A multistep method keeps its history
/// of expressions in the object, so each trajectory has a solver of its own.
template <class S>
class Solver {
 public:
  virtual ~Solver() = default;
  /// x(t_next) as an expression, given x(t_cur).
  virtual Expression<S> step(PlanBuilder<S>& plan, const Expression<S>& x, const StepPosition& at) = 0;
};

}  // namespace epd
