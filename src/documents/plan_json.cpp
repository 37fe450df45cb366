#include "epd/documents/plan_json.h"

#include <variant>
#include <vector>

#include "epd/files/json.h"

namespace epd {
namespace {

Json json_of(const Combine<double>& combine) {
  std::vector<int> registers;
  std::vector<double> coefficients;
  for (const auto& term : combine.sum.terms()) {
    registers.push_back(term.source);
    coefficients.push_back(term.coefficient);
  }
  return {{"combine", combine.target}, {"registers", registers}, {"coefficients", coefficients}};
}

Json json_of(const Evaluate<double>& evaluate) {
  return {{"evaluate", evaluate.denoised}, {"states", evaluate.states}, {"sigmas", evaluate.sigmas}};
}

Json json_of(const PlanStep& step) {
  return {{"t_cur", step.t.cur},
          {"t_next", step.t.next},
          {"afs", step.analytical},
          {"first", step.first},
          {"last", step.last}};
}

/// The noise level of every grid point. All intervals of a plan have the same number of steps.
std::vector<double> grid_times(const Plan<double>& plan) {
  std::vector<double> times;
  const std::size_t intervals = plan.grid.size() - 1;
  if (intervals == 0) return times;
  const std::size_t steps_each = plan.steps.size() / intervals;
  times.push_back(plan.steps.front().t.cur);
  for (std::size_t n = 1; n <= intervals; ++n) times.push_back(plan.steps[n * steps_each - 1].t.next);
  return times;
}

}  // namespace

std::string plan_json(const Plan<double>& plan, std::string_view solver, int cost_factor) {
  Json steps = Json::array(), instructions = Json::array();
  for (const auto& step : plan.steps) steps.push_back(json_of(step));
  for (const auto& instruction : plan.instructions) {
    instructions.push_back(std::visit([](const auto& one) { return json_of(one); }, instruction));
  }
  Json json{{"format", "epd-plan"},
            {"version", 1},
            {"solver", solver},
            {"nfe", plan.nfe() * cost_factor},
            {"evaluations", plan.evaluations() * cost_factor},
            {"cost_factor", cost_factor},
            {"num_registers", plan.num_registers}};
  if (plan.mean) json["mean"] = *plan.mean;
  json.update({{"times", grid_times(plan)}, {"grid", plan.grid}, {"steps", steps}, {"instructions", instructions}});
  return json_text(json) + "\n";
}

}  // namespace epd
