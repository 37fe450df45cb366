#pragma once

#include <cstddef>
#include <vector>

#include "epd/solver/predictor_spec.h"
#include "epd/solver/solvers.h"

namespace epd {

/// The solver's whole run on the grid.
Plan<double> make_plan(const SolverOptions& options, const TimeSteps& t);
/// The distilled student's whole run.
Plan<double> make_plan(const PredictorSpec& predictor, const TimeSteps& t);

/// A fresh solver for the student epd or ipndm, with its coefficients as numbers or as learning parameters.
template <class S>
EpdSolver<S> student_solver(const PredictorSpec& predictor, const std::vector<S>& raw);

/// Appends the step of one interval of the grid, by a Solver or an EpdSolver: the state at its end, as a new grid point
/// of the plan.
template <class S, class AnySolver>
Expression<S> append_step(PlanBuilder<S>& plan, AnySolver& solver, const Expression<S>& x, const TimeSteps& t,
                          std::size_t interval, Afs afs) {
  const StepPosition at{t.interval(interval), static_cast<int>(interval), static_cast<int>(t.num_intervals()),
                        interval == 0 ? afs : Afs::kNo, interval + 2 < t.size() && t[interval + 2] == 0};
  plan.begin_step(at.t, at.afs != Afs::kNo);
  return plan.grid_point(solver.step(plan, x, at));
}

/// NFE = num_steps - 1 steps of 2 (kind ns: of 1), one less with AFS, for names and headings; the plan's own count
/// rules.
int student_nfe(const PredictorSpec& predictor);

}  // namespace epd
