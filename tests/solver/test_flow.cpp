#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "epd/solver/make_plan.h"
#include "support/closed_denoisers.h"
#include "support/golden_solvers.h"
#include "support/run_plan.h"

// Flow models, x = (1 - s) x_0 + s e: the solvers run on the time s as they do on sigma, from the noise itself at s
// = 1.
namespace epd::testing {
namespace {

TimeSteps to_zero(std::vector<double> t) { return TimeSteps(std::move(t), TimeSteps::Last::kMayBeZero); }

using State = std::vector<double>;

ScheduleOptions flow_match(double shift, double sigma_min = 1e-3) {
  return {ScheduleKind::kFlowMatch, shift, sigma_min, 1};
}

/// y ~ N(0, 0.5^2): E[y | x], and the flow's exact state at t from that at 1, which is the noise.
struct GaussianFlow {
  static constexpr double kS = 0.5;
  static double variance(double t) { return (1 - t) * (1 - t) * kS * kS + t * t; }
  State operator()(const State& x, double t) const {
    State result;
    for (const double v : x) result.push_back(v * (1 - t) * kS * kS / variance(t));
    return result;
  }
  static double exact(double noise, double t) { return noise * std::sqrt(variance(t)); }
};

TEST(Flow, SchedulersOfDiffusersGiveTheSameTimesAndStates) {
  const auto cases = golden_cases("flow");
  ASSERT_EQ(cases.size(), 12u);
  for (const auto& golden : cases) {
    const std::string name = golden.dump().substr(0, 60);
    const auto times = golden.at("times").get<State>();
    const auto ours =
        make_time_steps(flow_match(golden.at("shift"), golden.at("sigma_min")), static_cast<int>(times.size()));
    EXPECT_EQ(ours[0], 1);
    EXPECT_EQ(ours.values().back(), 0);
    for (std::size_t i = 0; i < times.size(); ++i) EXPECT_NEAR(ours[i], times[i], 1e-6) << name;
    SolverOptions options;
    options.kind = value_of(kSolverNames, golden.at("solver").get<std::string>(), "solver");
    options.clock = Clock::kFlow;
    const auto run =
        run_plan(make_plan(options, to_zero(times)), golden.at("states")[0].get<State>(), [](const State& x, double t) {
          State result;
          for (const double v : x) result.push_back(Mixture{}.flow(v, t));
          return result;
        });
    ASSERT_EQ(run.grid.size(), golden.at("states").size()) << name;
    for (std::size_t n = 0; n < run.grid.size(); ++n) {
      const auto expected = golden.at("states")[n].get<State>();
      for (std::size_t i = 0; i < expected.size(); ++i) EXPECT_NEAR(run.grid[n][i], expected[i], 2e-6) << name << n;
    }
  }
}

TEST(Flow, EverySolverConvergesToTheGaussiansFlow) {
  for (const auto& [name, kind] : kSolverNames) {
    const auto error = [&, kind = kind](int steps) {
      const SolverOptions options{.kind = kind, .max_order = {}, .clock = Clock::kFlow};
      ScheduleOptions uniform{ScheduleKind::kPolynomial, 1, 0.05, 1};
      const auto t = make_time_steps(uniform, steps);
      return std::abs(run_plan(make_plan(options, t), {1.3}, GaussianFlow{}).end()[0] - GaussianFlow::exact(1.3, 0.05));
    };
    EXPECT_LT(error(161), 6e-3) << name;
    EXPECT_LT(error(161), 0.6 * error(41)) << name;
  }
}

TEST(Flow, PureNoiseIsExact) {
  // The first step from s = 1 is the noise's share of the state, whatever the solver: no number overflows or is lost.
  for (const auto& [name, kind] : kSolverNames) {
    SolverOptions options{.kind = kind, .max_order = {}, .clock = Clock::kFlow};
    const auto plan = make_plan(options, to_zero({1, 0}));
    EXPECT_EQ(run_plan(plan, {-2.5}, GaussianFlow{}).end()[0], 0) << name;  // D(noise; 1) is the mean
    options.afs = Afs::kMean;
    const auto with_mean = make_plan(options, to_zero({1, 0.5, 0}));
    EXPECT_TRUE(with_mean.mean) << name;
  }
  const auto euler = run_plan(make_plan(SolverOptions{}, TimeSteps({1, 0.5})), {-2.5}, GaussianFlow{});
  EXPECT_EQ(euler.end()[0], -1.25);
}

/// Every solver that interpolates in lambda or rho, with every order and variant of its formula.
std::vector<std::pair<std::string, SolverOptions>> exponential_solvers() {
  std::vector<std::pair<std::string, SolverOptions>> all;
  const auto add = [&](const char* name, int order, const std::string& variant) -> SolverOptions& {
    all.push_back({text(name, order, variant), {.kind = value_of(kSolverNames, name, "solver"), .max_order = order}});
    all.back().second.lower_order_final = false;
    all.back().second.clock = Clock::kFlow;
    return all.back().second;
  };
  for (int order = 1; order <= 3; ++order) {
    add("dpmpp", order, "");
    for (const auto& [name, variant] : kUnipcVariantNames) add("unipc", order, name).unipc_variant = variant;
  }
  for (int order = 1; order <= 4; ++order) {
    for (const auto& [name, mode] : kDeisModeNames) add("deis", order, name).deis_mode = mode;
  }
  return all;
}

TEST(Flow, ExponentialSolversTakeTheStepsOfEdmsClock) {
  // x / (1 - s) is EDM's state at sigma = s / (1 - s): the orders of convergence there are those here.
  const Mixture data;
  const std::vector<double> s{0.98, 0.9, 0.75, 0.5, 0.3, 0.1, 0.02};
  std::vector<double> sigmas;
  for (const double t : s) sigmas.push_back(t / (1 - t));
  for (auto [name, options] : exponential_solvers()) {
    const auto flow = run_plan(make_plan(options, TimeSteps(s)), {1.3},
                               [&](const State& x, double t) { return State{data.flow(x[0], t)}; });
    options.clock = Clock::kEdm;
    const auto edm = run_plan(make_plan(options, TimeSteps(sigmas)), {1.3 / (1 - s[0])},
                              [&](const State& x, double sigma) { return State{data(x[0], sigma)}; });
    for (std::size_t n = 0; n < s.size(); ++n) {
      EXPECT_NEAR(flow.grid[n][0], (1 - s[n]) * edm.grid[n][0], 1e-12) << name << " at " << s[n];
    }
  }
}

TEST(Flow, PureNoiseIsTheLimitOfAlmostPureNoise) {
  // lambda = ln((1 - s) / s) grows without bound as s nears 1, so what depends on it fades as 1 / lambda.
  for (const auto& [name, options] : exponential_solvers()) {
    if (name.ends_with("bh1")) continue;  // its first corrector grows with lambda; at s = 1 it has none
    const auto end = [&, &options = options](double s) {
      return run_plan(make_plan(options, TimeSteps({s, 0.9, 0.6, 0.3, 0.1})), {1.3}, GaussianFlow{}).end()[0];
    };
    const double limit = end(1), far = std::abs(end(1 - 1e-7) - limit), near = std::abs(end(1 - 1e-14) - limit);
    EXPECT_TRUE(std::isfinite(limit)) << name;
    EXPECT_LT(near, 0.01) << name;
    EXPECT_LT(near, 0.85 * far + 1e-12) << name;  // deis tab: as 1 / sqrt(lambda)
  }
  for (const auto& [name, options] : exponential_solvers()) {
    const auto run = run_plan(make_plan(options, TimeSteps({1, 0.5})), {-2.5}, GaussianFlow{});
    EXPECT_EQ(run.end()[0], -1.25) << name;  // the mean, 0, and half of the noise
  }
}

TEST(Flow, NoisePredictionIsRefused) {
  SolverOptions options{.kind = solver_kind("dpmpp"), .max_order = {}, .clock = Clock::kFlow};
  options.predict_x0 = false;
  EXPECT_THROW(make_plan(options, to_zero({1, 0})), UsageError);
}

TEST(Flow, NoSolverEvaluatesTheLastStateTwice) {
  for (const auto& [name, kind] : kSolverNames) {
    const auto plan = make_plan({.kind = kind, .max_order = {}}, to_zero({8, 2, 1, 0}));
    EXPECT_EQ(plan.nfe(), 2 * info_of(kind).evaluations + 1) << name;
  }
}

TEST(Flow, LastStepToZeroIsTheDenoisedImage) {
  for (const auto& [name, kind] : kSolverNames) {
    SolverOptions options;
    options.kind = kind;
    const auto run = run_plan(make_plan(options, to_zero({8, 2, 1, 0})), {3.0}, GaussianDenoiser{});
    EXPECT_DOUBLE_EQ(run.end()[0], GaussianDenoiser{}({run.grid[2][0]}, 1)[0]) << name;
  }
}

TEST(Flow, NsPlansEndAtZero) {
  const auto plan = make_plan(SolverOptions{}, to_zero({1, 0.5, 0}));
  const auto global = global_form(plan, 1, 0);
  EXPECT_EQ(run_plan(write_plan(validated(global)), {0.7}, GaussianFlow{}).end(),
            run_plan(plan, {0.7}, GaussianFlow{}).end());
}

}  // namespace
}  // namespace epd::testing
