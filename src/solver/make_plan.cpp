#include "epd/solver/make_plan.h"

#include "epd/solver/dpm2.h"
#include "epd/solver/dpmpp.h"
#include "epd/solver/euler.h"
#include "epd/solver/heun.h"

namespace epd {
namespace {

bool refines_intervals(SolverKind kind) {
  return kind == SolverKind::kEuler || kind == SolverKind::kHeun || kind == SolverKind::kDpm;
}

std::unique_ptr<Solver<double>> make_solver(const SolverOptions& o) {
  const int order = o.max_order.value_or(highest_order(o.kind));
  switch (o.kind) {
    case SolverKind::kEuler:
      return std::make_unique<EulerSolver<double>>();
    case SolverKind::kHeun:
      return std::make_unique<HeunSolver<double>>();
    case SolverKind::kDpm:
      return std::make_unique<Dpm2Solver<double>>();
    case SolverKind::kDpmpp:
      return std::make_unique<DpmppSolver<double>>(order, o.predict_x0, o.lower_order_final);
    case SolverKind::kIpndm:
      return std::make_unique<IpndmSolver<double>>(order);
    case SolverKind::kUnipc:
      return std::make_unique<UnipcSolver<double>>(order, o.predict_x0, o.lower_order_final, o.unipc_variant);
    case SolverKind::kDeis:
      // As published, the clock of the range 0.002 to 80 for every model: it only shapes the interpolation.
      return std::make_unique<DeisSolver<double>>(order, o.deis_mode, VpSigmaMap::between(0.002, 80));
  }
  throw Error("unknown solver");
}

/// The grid inside one interval: `points` noise levels with its two ends.
TimeSteps inner_grid(Interval t, int points) {
  ScheduleOptions inner;
  inner.sigma_min = t.next;
  inner.sigma_max = t.cur;
  return make_time_steps(inner, points);
}

}  // namespace

const SolverOptions& SolverOptions::validated() const {
  const int highest = highest_order(kind);
  const char* name = name_of(kSolverNames, kind);
  EPD_REQUIRE_USAGE(!max_order || highest > 0, "max_order: solver ", name, " has a fixed order; leave it out");
  EPD_REQUIRE_USAGE(!max_order || (*max_order >= 1 && *max_order <= highest), "max_order: expected 1 to ", highest,
                    " for solver ", name, ", got ", max_order.value_or(0));
  EPD_REQUIRE_USAGE(inner_steps >= 2 && inner_steps <= 1000, "inner_steps: expected 2 to 1000, got ", inner_steps);
  EPD_REQUIRE_USAGE(inner_steps == 2 || refines_intervals(kind), "inner_steps: solver ", name,
                    " keeps a history and cannot refine its intervals; use euler, heun or dpm");
  return *this;
}

int highest_order(SolverKind kind) {
  switch (kind) {
    case SolverKind::kDpmpp:
      return DpmppSolver<double>::kMaxOrder;
    case SolverKind::kIpndm:
      return AdamsBashforth<double>::kMaxOrder;
    case SolverKind::kUnipc:
      return UnipcSolver<double>::kMaxOrder;
    case SolverKind::kDeis:
      return DeisSolver<double>::kMaxOrder;
    case SolverKind::kEuler:
    case SolverKind::kHeun:
    case SolverKind::kDpm:
      return 0;
  }
  return 0;
}

int evaluations_per_step(SolverKind kind) { return kind == SolverKind::kHeun || kind == SolverKind::kDpm ? 2 : 1; }

template <class S>
Expression<S> walk(PlanBuilder<S>& plan, Solver<S>& solver, const Expression<S>& x, const TimeSteps& t,
                   std::size_t interval, Afs afs) {
  const StepPosition at{t.interval(interval), static_cast<int>(interval), static_cast<int>(t.num_intervals()),
                        interval == 0 ? afs : Afs::kNo};
  plan.begin_step(at.t, at.afs != Afs::kNo);
  return plan.grid_point(solver.step(plan, x, at));
}

Plan<double> make_plan(const SolverOptions& options, const TimeSteps& t) {
  const auto solver = make_solver(options.validated());
  PlanBuilder<double> plan;
  auto x = plan.start();
  for (std::size_t n = 0; n < t.num_intervals(); ++n) {
    if (options.inner_steps == 2) {
      x = walk(plan, *solver, x, t, n, options.afs);
      continue;
    }
    const TimeSteps inner = inner_grid(t.interval(n), options.inner_steps);
    for (std::size_t m = 0; m < inner.num_intervals(); ++m) {
      const StepPosition at{inner.interval(m), static_cast<int>(n), static_cast<int>(t.num_intervals()),
                            n == 0 && m == 0 ? options.afs : Afs::kNo};
      plan.begin_step(at.t, at.afs != Afs::kNo);
      x = plan.state(solver->step(plan, x, at));
    }
    x = plan.grid_point(x);
  }
  return plan.plan();
}

template <class S>
std::unique_ptr<EpdSolver<S>> make_student(const PredictorSpec& predictor, const std::vector<S>& raw) {
  std::optional<int> history;
  if (predictor.kind == StudentKind::kIpndm) history = predictor.max_order.value_or(AdamsBashforth<S>::kMaxOrder);
  return std::make_unique<EpdSolver<S>>(epd_table(predictor, raw), history);
}

Plan<double> make_plan(const PredictorSpec& predictor, const TimeSteps& t) {
  predictor.validated();
  if (predictor.kind == StudentKind::kNs) return write_plan(predictor.plan);
  EPD_REQUIRE(t.size() == static_cast<std::size_t>(predictor.num_steps), "predictor: made for ", predictor.num_steps,
              " times, and the grid has ", t.size());
  const auto student = make_student(predictor, predictor.parameters);
  PlanBuilder<double> plan;
  auto x = plan.start();
  for (std::size_t n = 0; n < t.num_intervals(); ++n) x = walk(plan, *student, x, t, n, predictor.afs);
  return plan.plan();
}

int student_nfe(const PredictorSpec& predictor) {
  const int per_step = predictor.kind == StudentKind::kNs ? 1 : 2;
  return per_step * (predictor.num_steps - 1) - (predictor.afs == Afs::kNo ? 0 : 1);
}

template std::unique_ptr<EpdSolver<double>> make_student(const PredictorSpec&, const std::vector<double>&);
template std::unique_ptr<EpdSolver<Dual>> make_student(const PredictorSpec&, const std::vector<Dual>&);
template Expression<double> walk(PlanBuilder<double>&, Solver<double>&, const Expression<double>&, const TimeSteps&,
                                 std::size_t, Afs);
template Expression<Dual> walk(PlanBuilder<Dual>&, Solver<Dual>&, const Expression<Dual>&, const TimeSteps&,
                               std::size_t, Afs);

}  // namespace epd
