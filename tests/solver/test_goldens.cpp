#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "epd/solver/make_plan.h"
#include "support/closed_denoisers.h"
#include "support/golden_solvers.h"
#include "support/run_plan.h"

// The solvers against numbers of the published code, in float64 (tests/golden/solvers/README.md). The inputs have 17
// digits and the results 13.
namespace epd::testing {
namespace {

using nlohmann::json;
constexpr double kTolerance = 1e-11;  // of a state's largest entry

void expect_states(const std::vector<std::vector<double>>& grid, const json& states, const std::string& name) {
  ASSERT_EQ(grid.size(), states.size()) << name;
  for (std::size_t n = 0; n < grid.size(); ++n) {
    const auto expected = states[n].get<std::vector<double>>();
    double largest = 0;
    for (const double value : expected) largest = std::max(largest, std::abs(value));
    for (std::size_t i = 0; i < expected.size(); ++i) {
      EXPECT_NEAR(grid[n][i], expected[i], kTolerance * largest) << name << ", grid point " << n << ", entry " << i;
    }
  }
}

void expect_run(const Plan<double>& plan, const json& golden) {
  const std::string name = golden.at("name");
  const auto denoiser = golden.contains("labels") ? golden_denoiser(golden) : MixtureDenoiser{};
  const auto run = run_plan(plan, golden.at("states")[0].get<std::vector<double>>(), denoiser);
  expect_states(run.grid, golden.at("states"), name);
  EXPECT_EQ(run.forwards, golden.at("nfe")) << name;
  EXPECT_EQ(plan.nfe(), golden.at("nfe")) << name;
}

/// Dynamic thresholding is the denoiser's (tests/runtime/test_thresholding.cpp), and quirks are accidents of the
/// published code that are not ours.
bool is_ours(const json& golden) {
  return !golden.contains("quirk") && !golden.at("options").value("thresholding", false);
}

/// Runs every case of ours and returns how many there were.
int expect_cases(const std::string& file) {
  int count = 0;
  for (const json& golden : golden_cases(file)) {
    if (!is_ours(golden)) continue;
    const TimeSteps t(golden.at("t_steps").get<std::vector<double>>());
    expect_run(make_plan(golden_options(golden.at("options")), t), golden);
    ++count;
  }
  return count;
}

TEST(PublishedSolvers, BaselinesGiveTheSameStates) { EXPECT_GE(expect_cases("baselines"), 48); }

TEST(PublishedSolvers, UnipcGivesTheSameStates) { EXPECT_GE(expect_cases("unipc"), 25); }

TEST(PublishedSolvers, DeisGivesTheSameStates) { EXPECT_GE(expect_cases("deis"), 12); }

TEST(PublishedSolvers, DeisHasTheSameCoefficients) {
  for (const json& golden : golden_cases("deis")) {
    const auto mode = golden_options(golden.at("options")).deis_mode;
    const auto t = golden.at("t_steps").get<std::vector<double>>();
    for (std::size_t i = 0; i + 1 < t.size(); ++i) {
      const auto expected = golden.at("coefficients")[i].get<std::vector<double>>();
      std::vector<double> nodes;
      for (std::size_t j = 0; j < expected.size(); ++j) nodes.push_back(t[i - j]);
      const auto weights = deis_weights(mode, nodes, t[i + 1], VpSigmaMap::between(0.002, 80));
      for (std::size_t j = 0; j < weights.size(); ++j) {
        EXPECT_NEAR(weights[j], expected[j], 1e-11 * std::abs(expected[0])) << golden.at("name") << " step " << i;
      }
    }
  }
}

TEST(PublishedSolvers, TeachersReachTheSameStatesOnTheStudentsGrid) {
  for (const json& golden : golden_cases("teachers")) {
    const TimeSteps t(golden.at("teacher_t_steps").get<std::vector<double>>());
    const auto plan = make_plan(golden_options(golden.at("options")), t);
    const auto run = run_plan(plan, golden.at("states")[0].get<std::vector<double>>(), MixtureDenoiser{});
    const std::size_t stride = golden.at("options").at("M").get<std::size_t>() + 1;
    std::vector<std::vector<double>> on_student_grid;
    for (std::size_t n = 0; n < run.grid.size(); n += stride) on_student_grid.push_back(run.grid[n]);
    expect_states(on_student_grid, golden.at("states"), golden.at("name"));
    EXPECT_EQ(run.forwards, golden.at("nfe")) << golden.at("name");
  }
}

TEST(PublishedSolvers, StudentsGiveTheSameStates) {
  const auto cases = golden_cases("students");
  EXPECT_GE(cases.size(), 54u);
  for (const json& golden : cases) {
    const auto predictor = golden_predictor(golden, golden.at("options").at("solver"));
    const auto plan = make_plan(predictor, predictor.time_steps());
    expect_run(plan, golden);
    EXPECT_EQ(plan.evaluations(), golden.at("evaluations")) << golden.at("name");
  }
}

TEST(PublishedSolvers, SchedulersOfDiffusersMakeTheSameImage) {
  // Their tables and states are float32; models/README.md says which of their settings are which of our options.
  const auto cases = golden_cases("diffusers");
  EXPECT_GE(cases.size(), 170u);
  for (const json& golden : cases) {
    auto options = golden_options(golden.at("options"));
    const bool flow = golden.at("prediction") == "flow_prediction";
    if (flow) options.clock = Clock::kFlow;
    const TimeSteps t(golden.at("times").get<std::vector<double>>(), TimeSteps::Last::kMayBeZero);
    std::vector<double> start{-1.7, -0.6, -0.05, 0.3, 0.9, 2.2};
    for (double& x : start) x *= t[0];
    const auto end = run_plan(make_plan(options, t), start, [&](const std::vector<double>& x, double level) {
                       std::vector<double> result;
                       for (const double v : x) result.push_back(flow ? Mixture{}.flow(v, level) : Mixture{}(v, level));
                       return result;
                     }).end();
    const auto expected = golden.at("end").get<std::vector<double>>();
    double largest = 0, error = 0;
    for (std::size_t i = 0; i < end.size(); ++i) {
      largest = std::max(largest, std::abs(expected[i]));
      error = std::max(error, std::abs(end[i] - expected[i]));
    }
    EXPECT_LT(error / largest, 1e-4) << golden.at("scheduler") << golden.at("settings") << golden.at("prediction");
  }
}

}  // namespace
}  // namespace epd::testing
