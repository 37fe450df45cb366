#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "epd/documents/plan_json.h"
#include "epd/solver/make_plan.h"
#include "support/closed_denoisers.h"
#include "support/run_plan.h"

namespace epd::testing {
namespace {

using nlohmann::json;

std::vector<Plan<double>> every_plan() {
  const auto t = make_time_steps({}, 5);
  std::vector<Plan<double>> plans;
  for (const auto& [name, kind] : kSolverNames) {
    for (const bool afs : {false, true}) {
      SolverOptions options;
      options.kind = kind;
      options.afs = afs ? Afs::kAnalytical : Afs::kNo;
      plans.push_back(make_plan(options, t));
    }
  }
  plans.push_back(
      make_plan({.kind = solver_kind("dpm"), .max_order = {}, .afs = Afs::kAnalytical, .inner_steps = 3}, t));
  for (const auto kind : {StudentKind::kEpd, StudentKind::kIpndm}) {
    PredictorSpec spec;
    spec.parameters().on_ipndm = kind == StudentKind::kIpndm;
    spec.num_steps = 5;
    spec.num_points = 3;
    for (std::size_t i = 0; i < spec.num_parameters(); ++i) spec.parameters().raw.push_back(std::sin(3.0 * (i + 1)));
    plans.push_back(make_plan(spec, t));
  }
  return plans;
}

/// Runs the JSON by its documentation alone.
std::vector<double> run_json(const json& plan, double start, const Mixture& denoise) {
  std::vector<double> registers(plan.at("num_registers").get<std::size_t>(), std::nan(""));
  registers[0] = start;
  for (const json& instruction : plan.at("instructions")) {
    if (instruction.contains("combine")) {
      double sum = 0;
      for (std::size_t i = 0; i < instruction.at("registers").size(); ++i) {
        sum += instruction.at("coefficients")[i].get<double>() * registers[instruction.at("registers")[i]];
      }
      registers[instruction.at("combine")] = sum;
      continue;
    }
    for (std::size_t k = 0; k < instruction.at("evaluate").size(); ++k) {
      const double sigma = instruction.at("sigmas")[k];
      registers[instruction.at("evaluate")[k]] = denoise(registers[instruction.at("states")[k]], sigma);
    }
  }
  std::vector<double> states;
  for (const std::size_t r : plan.at("grid")) states.push_back(registers[r]);
  return states;
}

TEST(PlanJson, RunsToTheSameNumbers) {
  const Mixture denoise;
  for (const auto& plan : every_plan()) {
    const auto run = run_plan(plan, {37.0}, [&](const std::vector<double>& x, double sigma) {
      return std::vector<double>{denoise(x[0], sigma)};
    });
    const auto states = run_json(json::parse(plan_json(plan, "some")), 37, denoise);
    ASSERT_EQ(states.size(), run.grid.size());
    for (std::size_t n = 0; n < states.size(); ++n) EXPECT_EQ(states[n], run.grid[n][0]);  // to the bit
  }
}

TEST(PlanJson, SaysTimesStepsAndCounts) {
  for (const auto& plan : every_plan()) {
    const auto text = json::parse(plan_json(plan, "name of it", 2));
    EXPECT_EQ(text.at("format"), "epd-plan");
    EXPECT_EQ(text.at("solver"), "name of it");
    EXPECT_EQ(text.at("nfe"), 2 * plan.nfe());
    EXPECT_EQ(text.at("evaluations"), 2 * plan.evaluations());
    EXPECT_EQ(text.at("cost_factor"), 2);
    EXPECT_EQ(text.at("times").get<std::vector<double>>(), make_time_steps({}, 5).values());
    EXPECT_EQ(text.at("steps").size(), plan.steps.size());
    EXPECT_EQ(text.at("steps").back().at("t_next"), 0.002);
    EXPECT_EQ(text.at("steps").back().at("last"), plan.instructions.size());
  }
}

}  // namespace
}  // namespace epd::testing
