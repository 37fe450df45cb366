#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "epd/documents/plan_json.h"
#include "epd/plan_runner.h"
#include "epd/solver/make_plan.h"
#include "support/closed_denoisers.h"
#include "support/golden_solvers.h"
#include "support/run_plan.h"
#include "support/test_files.h"

namespace epd::testing {
namespace {

TimeSteps to_zero(std::vector<double> t) { return TimeSteps(std::move(t), TimeSteps::Last::kMayBeZero); }

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

TEST(PlanFiles, ReadBackToTheSameBytes) {
  for (const auto& plan : every_plan()) {
    const auto written = plan_json(plan, "name", 2, Clock::kEdm, {{"predictor", "of a test"}});
    const auto read = parse_plan(written, "x.json");
    EXPECT_EQ(read.clock, Clock::kEdm);
    EXPECT_EQ(read.solver, "name");
    EXPECT_EQ(read.times.values(), make_time_steps({}, 5).values());
    EXPECT_EQ(plan_json(read.plan, "name", 2, Clock::kEdm, {{"predictor", "of a test"}}), written);
  }
}

/// A step of an SDE from 4 to 1, and the two draws of noise that it takes.
Plan<double> noisy_plan() {
  PlanBuilder<double> plan;
  plan.begin_step({4, 1}, false);
  const auto x = plan.state(plan.start() + 0.5 * plan.noise());
  plan.grid_point(0.25 * x + 0.75 * plan.denoise(x, 4.1) + 0.125 * plan.noise());
  return plan.plan();
}

TEST(PlanFiles, ThatDrawNoiseReadBackToTheSameBytes) {
  const auto written = plan_json(noisy_plan(), "sde");
  EXPECT_EQ(json::parse(written).at("instructions")[0], json({{"noise", 1}}));
  const auto read = parse_plan(written, "x.json");
  EXPECT_EQ(read.plan.draws(), 2);
  EXPECT_EQ(plan_json(read.plan, "sde"), written);
}

TEST(PlanRunner, TakesTheNoiseThatAPlanDraws) {
  const auto plan = epd_plan::parse(plan_json(noisy_plan(), "sde"));
  const auto zero = [](const float*, const double*, std::size_t, std::size_t size, float* out) {
    std::fill(out, out + size, 0.0F);
  };
  EXPECT_THROW(epd_plan::run(plan, {1, 2}, zero), std::runtime_error);
  float value = 0;
  const auto draw = [&](float* noise, std::size_t size) { std::fill(noise, noise + size, value += 8); };
  EXPECT_EQ(epd_plan::run(plan, {1, 2}, zero, {}, draw), (std::vector<float>{4, 5}));
}

/// Heun's step from 8 to 2 as a person writes it, then one to 0.
json hand_written() {
  return json::parse(R"({
    "format": "epd-plan", "version": 1, "clock": "edm", "nfe": 3, "evaluations": 3, "num_registers": 6,
    "times": [8, 2, 0], "grid": [0, 4, 5],
    "instructions": [
      {"evaluate": [1], "states": [0], "sigmas": [8]},
      {"combine": 2, "registers": [0, 1], "coefficients": [0.25, 0.75]},
      {"evaluate": [3], "states": [2], "sigmas": [2]},
      {"combine": 4, "registers": [0, 1, 2, 3], "coefficients": [0.625, 0.375, -1.5, 1.5]},
      {"evaluate": [5], "states": [4], "sigmas": [2]}]})");
}

TEST(PlanFiles, OfAPersonNeedNoSteps) {
  const auto read = parse_plan(hand_written().dump(), "x.json");
  ASSERT_EQ(read.plan.steps.size(), 2u);
  EXPECT_EQ(read.plan.steps[0].last, 4u);
  EXPECT_EQ(read.plan.steps[1].last, 5u);
  const Mixture denoise;
  const auto run = run_plan(read.plan, {8.0}, MixtureDenoiser{});
  const double d1 = denoise(8.0, 8.0), euler = 0.25 * 8 + 0.75 * d1, d2 = denoise(euler, 2.0);
  const double heun = 8 - 3 * ((8 - d1) / 8 + (euler - d2) / 2);
  EXPECT_NEAR(run.grid[1][0], heun, 1e-14);
  EXPECT_EQ(run.end()[0], denoise(run.grid[1][0], 2.0));
}

struct BadPlan {
  std::function<void(json&)> change;
  const char* message;
};

TEST(PlanFiles, ThatCannotRunAreRefusedInOneLine) {
  const BadPlan bad[]{
      {[](json& p) { p["format"] = "epd-predictor"; }, "x.json: format: expected epd-plan, found 'epd-predictor'"},
      {[](json& p) { p["version"] = 2; }, "version: this program reads version 1, found 2"},
      {[](json& p) { p["version"] = "1"; }, "version: expected an integer"},
      {[](json& p) { p.erase("clock"); }, "x.json: clock: missing"},
      {[](json& p) { p["clock"] = "vp"; }, "clock"},
      {[](json& p) { p["solvers"] = "x"; }, "solvers: unknown field"},
      {[](json& p) {
         p["source"] = {{"licence", 7}};
       },
       "source: licence: expected a string"},
      {[](json& p) { p["nfe"] = 4; }, "nfe: says 4, and the instructions take 3"},
      {[](json& p) { p["evaluations"] = 2; }, "evaluations: says 2, and the instructions take 3"},
      {[](json& p) { p["cost_factor"] = 2; }, "nfe: says 3, and the instructions take 6"},
      {[](json& p) { p["cost_factor"] = 0; }, "cost_factor: expected 1 to 2"},
      {[](json& p) { p["num_registers"] = 7; }, "num_registers: no instruction fills register 6"},
      {[](json& p) { p["num_registers"] = 5; }, "evaluate: 5 is not a register; there are 0 to 4"},
      {[](json& p) { p["num_registers"] = 0; }, "num_registers: expected 1 to"},
      {[](json& p) { p["num_registers"] = 1e30; }, "num_registers: expected an integer"},
      {[](json& p) { p["num_registers"] = 4000000000; }, "num_registers: expected 1 to"},
      {[](json& p) { p["mean"] = 6; }, "mean: expected 1 to 5"},
      {[](json& p) { p["mean"] = 2; }, "instructions 1: combine: register 2 is filled already"},
      {[](json& p) {
         p["instructions"][1]["registers"] = {0, 4};
       },
       "instructions 1: registers: register 4 is read before it is filled"},
      {[](json& p) { p["instructions"][2]["states"] = {4}; },
       "instructions 2: states: register 4 is read before it is filled"},
      {[](json& p) {
         p["instructions"][3]["registers"] = {0, 1, 4, 3};
       },
       "register 4 is read before it is filled"},
      {[](json& p) { p["instructions"][2]["evaluate"] = {1}; },
       "instructions 2: evaluate: register 1 is filled already"},
      {[](json& p) { p["instructions"][2]["evaluate"] = {0}; }, "register 0 is filled already"},
      {[](json& p) { p["instructions"][1]["combine"] = -1; }, "combine: expected 0 to 5"},
      {[](json& p) { p["instructions"][1]["combine"] = "2"; }, "combine: expected an integer"},
      {[](json& p) {
         p["instructions"][1]["registers"] = {0, -1};
       },
       "registers: -1 is not a register"},
      {[](json& p) {
         p["instructions"][1]["registers"] = {0, 0.5};
       },
       "registers: 0.5 is not a register"},
      {[](json& p) {
         p["instructions"][1]["registers"] = {0, 1e300};
       },
       "is not a register"},
      {[](json& p) { p["instructions"][1]["registers"] = json::array(); }, "coefficients: expected 0 numbers, found 2"},
      {[](json& p) { p["instructions"][1]["coefficients"] = {0.25}; }, "coefficients: expected 2 numbers, found 1"},
      {[](json& p) {
         p["instructions"][1]["coefficients"] = {0.25, "x"};
       },
       "coefficients: expected a number"},
      {[](json& p) { p["instructions"][0]["sigmas"] = {0}; }, "sigmas: expected positive noise levels, found 0"},
      {[](json& p) { p["instructions"][0]["sigmas"] = {-8}; }, "sigmas: expected positive noise levels, found -8"},
      {[](json& p) {
         p["instructions"][0]["sigmas"] = {8, 2};
       },
       "sigmas: expected 1 numbers, found 2"},
      {[](json& p) {
         p["instructions"][0]["evaluate"] = {1, 1};
       },
       "evaluate: expected 1 registers"},
      {[](json& p) { p["instructions"][0]["states"] = json::array(); }, "states: expected 1 to 64 points, found 0"},
      {[](json& p) { p["instructions"][0]["states"] = std::vector<int>(65, 0); }, "expected 1 to 64 points, found 65"},
      {[](json& p) { p["instructions"][0]["states"] = {-3}; }, "states: -3 is not a register"},
      {[](json& p) { p["instructions"][0]["evaluate"] = {1000000000}; }, "is not a register"},
      {[](json& p) { p["instructions"][0]["sigmas"] = {"8"}; }, "sigmas: expected a number"},
      {[](json& p) { p["instructions"][0]["sigmas"] = {nullptr}; }, "sigmas: expected a number"},
      {[](json& p) { p["num_registers"] = 1000000000; }, "num_registers: expected 1 to"},
      {[](json& p) { p["num_registers"] = -6; }, "num_registers: expected 1 to"},
      {[](json& p) { p["mean"] = 0; }, "mean: expected 1 to 5, found 0"},
      {[](json& p) { p["mean"] = -1; }, "mean: expected 1 to 5, found -1"},
      {[](json& p) { p["cost_factor"] = -1; }, "cost_factor: expected 1 to 2"},
      {[](json& p) { p["instructions"][4]["states"] = {5}; }, "states: register 5 is read before it is filled"},
      {[](json& p) { p["instructions"][0]["noise"] = 1; }, "instructions 0: noise: unknown field"},
      {[](json& p) {
         p["instructions"][0] = {{"multiply", 1}};
       },
       "instructions 0: expected combine, evaluate or noise"},
      {[](json& p) {
         p["instructions"][0] = {{"noise", 6}};
       },
       "instructions 0: noise: expected 0 to 5"},
      {[](json& p) {
         p["instructions"][1] = {{"noise", 1}};
       },
       "instructions 1: noise: register 1 is filled already"},
      {[](json& p) {
         p["instructions"][1] = {{"noise", 2}, {"seed", 7}};
       },
       "instructions 1: seed: unknown field"},
      {[](json& p) { p["instructions"][0]["combine"] = 1; }, "instructions 0: registers: missing"},
      {[](json& p) { p["instructions"][0] = 3; }, "instructions 0: expected an object"},
      {[](json& p) {
         p["instructions"] = {{"a", 1}};
       },
       "instructions: expected a list of objects"},
      {[](json& p) { p["instructions"] = json::array(); }, "num_registers: no instruction fills register 1"},
      {[](json& p) {
         p["grid"] = {0, 4};
       },
       "grid: expected a register for each of at least 2 times"},
      {[](json& p) {
         p["grid"] = {1, 4, 5};
       },
       "grid: must begin with register 0"},
      {[](json& p) {
         p["grid"] = {0, 5, 4};
       },
       "grid: register 4 is not filled after register 5"},
      {[](json& p) {
         p["grid"] = {0, 4, 6};
       },
       "grid: 6 is not a register"},
      {[](json& p) { p["grid"] = json::array(), p["times"] = json::array(); }, "at least 2 times"},
      {[](json& p) { p.erase("grid"); }, "grid: missing"},
      {[](json& p) {
         p["times"] = {8, 0, 0};
       },
       "times: expected positive noise levels, found 0"},
      {[](json& p) {
         p["times"] = {8, 9, 0};
       },
       "times: 9 is not below 8"},
      {[](json& p) {
         p["times"] = {8, 2, -1};
       },
       "times: expected positive noise levels, found -1"},
      {[](json& p) { p["clock"] = "flow"; }, "sigmas: expected at most 2 in clock flow, found 8"},
      {[](json& p) { p["steps"] = json::array(); }, "steps: they do not lead from time to time"},
      {[](json& p) {
         p["steps"] = {{{"t_cur", 8}, {"t_next", 0}, {"afs", false}, {"first", 0}, {"last", 9}}};
       },
       "last: expected 0 to 5"},
  };
  for (const auto& [change, message] : bad) {
    auto plan = hand_written();
    change(plan);
    const auto error = test::error_of([&] { parse_plan(plan.dump(), "x.json"); }, /*exit_code=*/1);
    EXPECT_THAT(error, ::testing::StartsWith("x.json: "));
    EXPECT_THAT(error, ::testing::HasSubstr(message)) << plan.dump();
  }
}

TEST(PlanFiles, ThatAreNotJsonAreRefusedInOneLine) {
  const auto plan = hand_written().dump();
  const std::string deep(100000, '['), big = plan.substr(0, plan.size() - 1) + ",\"a\":" + std::string(1000, '1') + "}";
  auto infinite = plan;
  infinite.replace(infinite.find("0.25"), 4, "1e999");
  auto nan = plan;
  nan.replace(nan.find("0.25"), 4, "NaN ");
  auto twice = plan;
  twice.insert(1, "\"nfe\":3,");
  for (const auto& text : {std::string(), std::string("[]"), std::string("null"), plan.substr(0, plan.size() / 2),
                           plan + "}", deep, big, infinite, nan, twice, std::string("\0\xff{", 3)}) {
    const auto error = test::error_of([&] { parse_plan(text, "x.json"); }, /*exit_code=*/1);
    EXPECT_THAT(error, ::testing::StartsWith("x.json: "));
    EXPECT_LT(error.size(), 400u);
    EXPECT_ANY_THROW(epd_plan::parse(text)) << error;
  }
}

TEST(PlanFiles, OfGigabytesAreRefusedAtOnce) {
  const test::TemporaryFolder folder;
  const auto path = folder / "plan.json";
  std::ofstream(path) << "{";
  std::filesystem::resize_file(path, std::uintmax_t{5} << 30);  // sparse
  EXPECT_THAT(test::error_of([&] { read_plan_file(path); }, 1), ::testing::HasSubstr("plan.json"));
  EXPECT_FALSE(is_plan_file(path));
}

TEST(PlanFiles, OfAFlowBeginWithTheNoiseItself) {
  const auto times = to_zero({1, 0.6, 0});
  const auto written = plan_json(make_plan(SolverOptions{}, times), "euler", 1, Clock::kFlow);
  const auto read = parse_plan(written, "x.json");
  EXPECT_EQ(read.clock, Clock::kFlow);
  EXPECT_EQ(read.times.values(), times.values());
  auto above = json::parse(written);
  above["times"][0] = 1.5;
  EXPECT_THAT(test::error_of([&] { parse_plan(above.dump(), "x.json"); }), ::testing::HasSubstr("at most 1"));
}

/// The golden plans through include/epd/plan_runner.h, against the published states in float32.
int expect_same_by_runner(const std::string& file) {
  int count = 0;
  for (const json& golden : golden_cases(file)) {
    if (golden.contains("quirk") || golden.at("options").value("thresholding", false)) continue;
    const bool student = file == "students";
    const TimeSteps t(golden.at("t_steps").get<std::vector<double>>());
    const auto plan = student ? make_plan(golden_predictor(golden, golden.at("options").at("solver")), t)
                              : make_plan(golden_options(golden.at("options")), t);
    const auto denoiser = golden.contains("labels") ? golden_denoiser(golden) : MixtureDenoiser{};
    std::vector<float> noise;
    for (const double x : golden.at("states")[0]) noise.push_back(static_cast<float>(x / t[0]));
    const auto denoise = [&](const float* states, const double* levels, std::size_t num, std::size_t size, float* out) {
      for (std::size_t k = 0; k < num; ++k) {
        const auto image = denoiser(std::vector<double>(states + k * size, states + (k + 1) * size), levels[k]);
        for (const double value : image) *out++ = static_cast<float>(value);
      }
    };
    const auto end = epd_plan::run(epd_plan::parse(plan_json(plan, "golden")), noise, denoise);
    const auto expected = golden.at("states").back().get<std::vector<double>>();
    double largest = 0;
    for (const double value : expected) largest = std::max(largest, std::abs(value));
    for (std::size_t i = 0; i < expected.size(); ++i) {
      EXPECT_NEAR(end.at(i), expected[i], 1e-4 * largest) << golden.at("name");
    }
    ++count;
  }
  return count;
}

TEST(PlanRunner, GivesThePublishedStates) {
  EXPECT_GE(expect_same_by_runner("baselines"), 48);
  EXPECT_GE(expect_same_by_runner("unipc"), 25);
  EXPECT_GE(expect_same_by_runner("deis"), 12);
  EXPECT_GE(expect_same_by_runner("students"), 54);
}

TEST(PlanRunner, RefusesWhatCannotRun) {
  const std::function<void(json&)> bad[]{
      [](json& p) { p["format"] = "x"; },
      [](json& p) { p["version"] = 2; },
      [](json& p) { p["clock"] = "vp"; },
      [](json& p) { p["clock"] = "flow"; },
      [](json& p) { p.erase("grid"); },
      [](json& p) {
        p["grid"] = {0, 9};
      },
      [](json& p) { p["times"] = json::array(); },
      [](json& p) { p["num_registers"] = 5; },
      [](json& p) { p["num_registers"] = 1e9; },
      [](json& p) { p["instructions"] = 3; },
      [](json& p) { p["instructions"][0] = json::object(); },
      [](json& p) {
        p["instructions"][1]["registers"] = {0, 4};
      },
      [](json& p) {
        p["instructions"][1]["registers"] = {0, -1};
      },
      [](json& p) {
        p["instructions"][1]["registers"] = {0, 0.5};
      },
      [](json& p) { p["instructions"][1]["coefficients"] = {1}; },
      [](json& p) {
        p["instructions"][1]["coefficients"] = {1, "2"};
      },
      [](json& p) { p["instructions"][1]["combine"] = 0; },
      [](json& p) { p["instructions"][2]["evaluate"] = {1}; },
      [](json& p) { p["instructions"][0]["sigmas"] = {0}; },
      [](json& p) { p["instructions"][0]["states"] = json::array(); },
  };
  for (const auto& change : bad) {
    auto plan = hand_written();
    EXPECT_NO_THROW(epd_plan::parse(plan.dump()));
    change(plan);
    EXPECT_ANY_THROW(epd_plan::parse(plan.dump())) << plan.dump();
  }
}

TEST(PlanRunner, AsksForTheMeanThatAPlanBeginsWith) {
  SolverOptions options;
  options.afs = Afs::kMean;
  const auto plan = epd_plan::parse(plan_json(make_plan(options, TimeSteps({8, 2, 1})), "euler"));
  const auto zero = [](const float*, const double*, std::size_t, std::size_t size, float* out) {
    std::fill(out, out + size, 0.0F);
  };
  EXPECT_ANY_THROW(epd_plan::run(plan, {1, 2}, zero));
  // From 8 to 2 towards the mean, from 2 to 1 towards 0.
  EXPECT_EQ(epd_plan::run(plan, {1, 2}, zero, {4, 0}), (std::vector<float>{2.5F, 2}));
}

}  // namespace
}  // namespace epd::testing
