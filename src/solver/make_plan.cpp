#include "epd/solver/make_plan.h"

namespace epd {
namespace {

std::unique_ptr<Solver> make_solver(SolverOptions options) {
  options.validated();
  if (const int highest = highest_order(options.kind); highest > 0 && !options.max_order) options.max_order = highest;
  return info_of(options.kind).make(options);
}

/// The grid inside one interval: `points` noise levels with its two ends.
TimeSteps inner_grid(Interval t, int points) {
  ScheduleOptions inner;
  inner.sigma_min = t.next;
  inner.sigma_max = t.cur;
  return make_time_steps(inner, points);
}

}  // namespace

std::string solver_names(const std::function<bool(SolverKind)>& belongs, const char* last_separator) {
  std::vector<std::string> names;
  for (const auto& [name, kind] : kSolverNames) {
    if (belongs(kind)) names.push_back(name);
  }
  std::string result;
  for (std::size_t i = 0; i < names.size(); ++i) {
    result += (i == 0 ? "" : i + 1 == names.size() ? last_separator : ", ") + names[i];
  }
  return result;
}

std::string solvers_that_know(std::string_view option, const char* last_separator) {
  return solver_names([&](SolverKind kind) { return knows(kind, option); }, last_separator);
}

const SolverOptions& SolverOptions::validated() const {
  const int highest = highest_order(kind);
  const char* name = name_of(kSolverNames, kind);
  EPD_REQUIRE_USAGE(!max_order || highest > 0, "max_order: solver ", name, " has a fixed order; omit the option");
  EPD_REQUIRE_USAGE(!max_order || (*max_order >= 1 && *max_order <= highest), "max_order: expected 1 to ", highest,
                    " for solver ", name, ", got ", max_order.value_or(0));
  EPD_REQUIRE_USAGE(inner_steps >= 2 && inner_steps <= 1000, "inner_steps: expected 2 to 1000, got ", inner_steps);
  EPD_REQUIRE_USAGE(inner_steps == 2 || knows(kind, "inner_steps"), "inner_steps: solver ", name,
                    " is a multistep method without inner steps; use ", solvers_that_know("inner_steps", " or "));
  EPD_REQUIRE_USAGE(predict_x0 || clock == Clock::kEdm,
                    "predict_x0: a flow begins with pure noise, where noise prediction has no step; use True");
  return *this;
}

Plan<double> make_plan(const SolverOptions& options, const TimeSteps& t) {
  const auto solver = make_solver(options);
  PlanBuilder<double> plan;
  auto x = plan.start();
  for (std::size_t n = 0; n < t.num_intervals(); ++n) {
    if (t[n + 1] == 0) {  // every method ends with Euler's step to the denoised image (EDM, Algorithm 1)
      EulerSolver last;
      x = append_step(plan, last, x, t, n, options.afs);
      continue;
    }
    if (options.inner_steps == 2) {
      x = append_step(plan, *solver, x, t, n, options.afs);
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
EpdSolver<S> student_solver(const PredictorSpec& predictor, const std::vector<S>& raw) {
  std::optional<int> history;
  const EpdParameters& learned = predictor.parameters();
  if (learned.on_ipndm) history = learned.max_order.value_or(AdamsBashforth<S>::kMaxOrder);
  return EpdSolver<S>(epd_table(predictor, raw), history);
}

Plan<double> make_plan(const PredictorSpec& predictor, const TimeSteps& t) {
  predictor.validated();
  if (const auto* plan = predictor.plan()) return write_plan(*plan);
  EPD_REQUIRE(t.size() == static_cast<std::size_t>(predictor.num_steps), "predictor: made for ", predictor.num_steps,
              " times, and the grid has ", t.size());
  auto student = student_solver(predictor, predictor.parameters().raw);
  PlanBuilder<double> plan;
  auto x = plan.start();
  for (std::size_t n = 0; n < t.num_intervals(); ++n) x = append_step(plan, student, x, t, n, predictor.afs);
  return plan.plan();
}

int student_nfe(const PredictorSpec& predictor) {
  const int per_step = predictor.plan() ? 1 : 2;
  return per_step * (predictor.num_steps - 1) - (predictor.afs == Afs::kNo ? 0 : 1);
}

template EpdSolver<double> student_solver(const PredictorSpec&, const std::vector<double>&);
template EpdSolver<Dual> student_solver(const PredictorSpec&, const std::vector<Dual>&);

}  // namespace epd
