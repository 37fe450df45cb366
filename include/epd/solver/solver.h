#pragma once

#include <cmath>
#include <cstddef>
#include <optional>

#include "epd/core/model_facts.h"
#include "epd/core/names.h"
#include "epd/solver/plan.h"

namespace epd {

/// What replaces the first denoised image without an evaluation: nothing, the image that makes the first direction
/// x / sqrt(1 + t^2), or the mean of the data, which is what a network predicts at large t whatever its input.
enum class Afs { kNo, kAnalytical, kMean };

inline constexpr NameTable<Afs, 3> kAfsNames{{{"False", Afs::kNo}, {"True", Afs::kAnalytical}, {"mean", Afs::kMean}}};

/// UniPC's B(h): h itself (bh1) or e^h - 1 (bh2).
enum class UnipcVariant { kBh1, kBh2 };

inline constexpr NameTable<UnipcVariant, 2> kUnipcVariantNames{
    {{"bh1", UnipcVariant::kBh1}, {"bh2", UnipcVariant::kBh2}}};
constexpr const auto& names_of(UnipcVariant) { return kUnipcVariantNames; }

/// In which variable DEIS's polynomial through the last directions lives: the variance-preserving time (tAB), the noise
/// level itself (rhoAB) or its logarithm.
enum class DeisMode { kTimeAb, kRhoAb, kLogRhoAb };

inline constexpr NameTable<DeisMode, 3> kDeisModeNames{
    {{"tab", DeisMode::kTimeAb}, {"rhoab", DeisMode::kRhoAb}, {"logrho", DeisMode::kLogRhoAb}}};
constexpr const auto& names_of(DeisMode) { return kDeisModeNames; }

/// A classical solver, as the number of its row in kSolvers (solvers.h); value-initialised, the first one: euler.
enum class SolverKind : std::size_t {};

/// The options of classical solvers; which solver knows which one is in kSolvers.
struct SolverOptions {
  SolverKind kind{};
  std::optional<int> max_order;  // none: the solver's highest
  bool predict_x0 = true;        // data form
  bool lower_order_final = true;
  Afs afs = Afs::kNo;
  int inner_steps = 2;  // points of the polynomial rho-7 grid inside each interval; 2: none
  UnipcVariant unipc_variant = UnipcVariant::kBh2;
  DeisMode deis_mode = DeisMode::kTimeAb;
  Clock clock = Clock::kEdm;  // of the times; the model's

  /// *this, or throws UsageError naming the option, its value and its bound.
  const SolverOptions& validated() const;
};

/// A step's place in the run.
struct StepPosition {
  Interval t;
  int index = 0;  // 0 .. count - 1
  int count = 1;
  Afs afs = Afs::kNo;       // of this step
  bool image_next = false;  // the step after it ends at 0: the denoised image of the state that this one ends with

  bool is_last() const { return index + 1 == count; }
};

/// alpha of a state x = alpha x_0 + t e.
inline double alpha_at(Clock clock, double t) { return clock == Clock::kFlow ? 1 - t : 1; }

/// lambda = ln(alpha / t), in which exponential solvers step; -infinity for the noise itself, t = 1 of a flow.
inline double half_log_snr(Clock clock, double t) {
  return clock == Clock::kFlow ? std::log1p(-t) - std::log(t) : -std::log(t);
}

/// A deterministic ODE solver: it writes the instructions of one step at a time. A multistep method keeps its history
/// of expressions in the object, so each trajectory has a solver of its own.
class Solver {
 public:
  virtual ~Solver() = default;
  /// x(t_next) as an expression, given x(t_cur).
  virtual Expression<double> step(PlanBuilder<double>& plan, const Expression<double>& x, const StepPosition& at) = 0;
};

/// The analytical first step (AFS): at large t the data hardly count, and d(x, t) = x / sqrt(1 + t^2) is the direction
/// for unit-variance data, without an evaluation (Dockhorn et al. 2022; EPD section 3.4).
template <class S>
Expression<S> analytical_direction(const Expression<S>& x, double t) {
  return x / std::sqrt(1 + t * t);
}

/// D(x; t_cur) as the step sees it: evaluated, or what replaces it.
template <class S>
Expression<S> denoised_at(PlanBuilder<S>& plan, const Expression<S>& x, const StepPosition& at) {
  if (at.afs == Afs::kMean) return plan.mean();
  if (at.afs == Afs::kAnalytical) return x - at.t.cur * analytical_direction(x, at.t.cur);
  return plan.denoise(x, at.t.cur);
}

/// d(x, t_cur) = (x - D(x; t_cur)) / t_cur, the slope of the probability-flow ODE (EDM eq. 3), or AFS's.
template <class S>
Expression<S> direction_at(PlanBuilder<S>& plan, const Expression<S>& x, const StepPosition& at) {
  if (at.afs == Afs::kAnalytical) return analytical_direction(x, at.t.cur);
  return (x - denoised_at(plan, x, at)) / at.t.cur;
}

}  // namespace epd
