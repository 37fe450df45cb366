#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "epd/core/names.h"
#include "epd/solver/deis.h"
#include "epd/solver/predictor_spec.h"
#include "epd/solver/solver.h"
#include "epd/solver/unipc.h"

namespace epd {

/// The classical solvers: teachers of distillation and baselines of a comparison.
enum class SolverKind { kEuler, kHeun, kDpm, kDpmpp, kIpndm, kUnipc, kDeis };

inline constexpr NameTable<SolverKind, 7> kSolverNames{{
    {"euler", SolverKind::kEuler},
    {"heun", SolverKind::kHeun},
    {"dpm", SolverKind::kDpm},
    {"dpmpp", SolverKind::kDpmpp},
    {"ipndm", SolverKind::kIpndm},
    {"unipc", SolverKind::kUnipc},
    {"deis", SolverKind::kDeis},
}};

struct SolverOptions {
  SolverKind kind = SolverKind::kEuler;
  std::optional<int> max_order;  // none: the solver's highest
  bool predict_x0 = true;        // dpmpp, unipc: data form
  bool lower_order_final = true;
  Afs afs = Afs::kNo;
  int inner_steps = 2;  // points of the polynomial rho-7 grid inside each interval (euler, heun, dpm); 2: none
  UnipcVariant unipc_variant = UnipcVariant::kBh2;
  DeisMode deis_mode = DeisMode::kTimeAb;

  /// *this, or throws UsageError naming the option, its value and its bound.
  const SolverOptions& validated() const;
};

/// The highest order that `max_order` can ask of the solver; 0 where the order is fixed.
int highest_order(SolverKind kind);
/// Serial evaluations of one step: 2 for heun and dpm, else 1.
int evaluations_per_step(SolverKind kind);

/// The solver's whole run on the grid.
Plan<double> make_plan(const SolverOptions& options, const TimeSteps& t);
/// The distilled student's whole run.
Plan<double> make_plan(const PredictorSpec& predictor, const TimeSteps& t);

/// A fresh solver for the student epd or ipndm, with its coefficients as numbers or as learning parameters.
template <class S>
std::unique_ptr<EpdSolver<S>> make_student(const PredictorSpec& predictor, const std::vector<S>& raw);

/// Lets the solver walk one interval of the grid: the state at its end, as a new grid point of the plan.
template <class S>
Expression<S> walk(PlanBuilder<S>& plan, Solver<S>& solver, const Expression<S>& x, const TimeSteps& t,
                   std::size_t interval, Afs afs);

/// NFE = num_steps - 1 steps of 2 (kind ns: of 1), one less with AFS, for names and headings; the plan's own count
/// rules.
int student_nfe(const PredictorSpec& predictor);

}  // namespace epd
