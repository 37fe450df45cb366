#include "epd/documents/plan_json.h"

#include <variant>
#include <vector>

#include "epd/files/json_writer.h"

namespace epd {
namespace {

JsonObject to_json(const Combine<double>& combine) {
  std::vector<int> registers;
  std::vector<double> coefficients;
  for (const auto& term : combine.sum.terms()) {
    registers.push_back(term.source);
    coefficients.push_back(term.coefficient);
  }
  JsonObject json;
  json.add("combine", combine.target).raw("registers", json_integers(registers));
  return json.raw("coefficients", json_numbers(coefficients));
}

JsonObject to_json(const Evaluate<double>& evaluate) {
  JsonObject json;
  json.raw("evaluate", json_integers(evaluate.denoised)).raw("states", json_integers(evaluate.states));
  return json.raw("sigmas", json_numbers(evaluate.sigmas));
}

JsonObject to_json(const PlanStep& step) {
  JsonObject json;
  json.add("t_cur", step.t.cur).add("t_next", step.t.next).add("afs", step.analytical);
  return json.add("first", step.first).add("last", step.last);
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
  std::vector<JsonObject> steps, instructions;
  for (const auto& step : plan.steps) steps.push_back(to_json(step));
  for (const auto& instruction : plan.instructions) {
    instructions.push_back(std::visit([](const auto& one) { return to_json(one); }, instruction));
  }
  JsonObject json;
  json.add("format", "epd-plan").add("version", 1).add("solver", solver);
  json.add("nfe", plan.nfe() * cost_factor).add("evaluations", plan.evaluations() * cost_factor);
  json.add("cost_factor", cost_factor).add("num_registers", plan.num_registers);
  if (plan.mean) json.add("mean", *plan.mean);
  json.raw("times", json_numbers(grid_times(plan))).raw("grid", json_integers(plan.grid));
  json.raw("steps", json_lines(steps)).raw("instructions", json_lines(instructions));
  return json.pretty() + "\n";
}

}  // namespace epd
