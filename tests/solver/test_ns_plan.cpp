#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "epd/documents/predictor_json.h"
#include "epd/documents/run_dir.h"
#include "epd/solver/make_plan.h"
#include "epd/solver/ns_plan.h"
#include "support/closed_denoisers.h"
#include "support/run_plan.h"

namespace epd::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

const std::vector<double> kStart{-71, 3, 90};

TimeSteps grid(int num_steps) { return make_time_steps({ScheduleKind::kTimeUniform, 1, 0.002, 80}, num_steps); }

std::vector<double> end_of(const Plan<double>& plan) { return run_plan(plan, kStart, MixtureDenoiser()).end(); }

NsPlan<double> global(const Plan<double>& plan, const TimeSteps& t) {
  return global_form(plan, t[0], t.values().back());
}

/// Holds the global form of a plan to the plan: the same end, for the same evaluations.
void expect_same_method(const Plan<double>& plan, const TimeSteps& t) {
  const auto whole = write_plan(validated(global(plan, t)));
  EXPECT_EQ(whole.nfe(), plan.nfe());
  EXPECT_EQ(whole.evaluations(), plan.evaluations());
  const auto end = end_of(whole), expected = end_of(plan);
  for (std::size_t i = 0; i < end.size(); ++i) EXPECT_NEAR(end[i], expected[i], 1e-12) << "coordinate " << i;
}

SolverOptions solver(SolverKind kind, int order, Afs afs, bool other) {
  SolverOptions options;
  options.kind = kind;
  if (order > 0) options.max_order = order;
  options.afs = afs;
  options.predict_x0 = options.lower_order_final = other;
  options.unipc_variant = other ? UnipcVariant::kBh1 : UnipcVariant::kBh2;
  options.deis_mode = other ? DeisMode::kTimeAb : DeisMode::kRhoAb;
  return options;
}

Plan<double> dpmpp(int num_steps) {
  return make_plan(solver(solver_kind("dpmpp"), 3, Afs::kNo, true), grid(num_steps));
}

TEST(GlobalForm, IsTheSameMethodForEverySolver) {
  for (const auto& [name, kind] : kSolverNames) {
    for (int order = highest_order(kind) > 0 ? 1 : 0; order <= highest_order(kind); ++order) {
      for (const int num_steps : {3, 6, 11}) {
        for (const Afs afs : {Afs::kNo, Afs::kAnalytical}) {
          for (const bool other : {false, true}) {
            SCOPED_TRACE(
                text(name, " order ", order, " N ", num_steps, " afs ", name_of(kAfsNames, afs), " other ", other));
            expect_same_method(make_plan(solver(kind, order, afs, other), grid(num_steps)), grid(num_steps));
          }
        }
      }
    }
  }
}

TEST(GlobalForm, IsTheSameMethodForThePublishedPredictors) {
  for (int number = 1; number <= 32; ++number) {
    const auto path = find_predictor(std::to_string(number), {std::filesystem::path(EPD_SOURCE_DIR) / "exp"});
    const auto predictor = read_predictor(path);
    SCOPED_TRACE(path.string());
    expect_same_method(make_plan(predictor, predictor.time_steps()), predictor.time_steps());
  }
}

TEST(GlobalForm, OfItsOwnPlanIsItself) {
  const auto plan = with_extra_points(global(dpmpp(6), grid(6)), 2, 1.65);
  const auto again = global(write_plan(plan), grid(6));
  ASSERT_THAT(again.stages, SizeIs(plan.stages.size()));
  for (std::size_t s = 0; s < plan.stages.size(); ++s) {
    ASSERT_THAT(again.stages[s], SizeIs(plan.stages[s].size()));
    for (std::size_t k = 0; k < plan.stages[s].size(); ++k) {
      EXPECT_EQ(again.stages[s][k].sigma, plan.stages[s][k].sigma);
      EXPECT_EQ(again.stages[s][k].start, plan.stages[s][k].start);
      EXPECT_EQ(again.stages[s][k].weights, plan.stages[s][k].weights);
    }
  }
  EXPECT_EQ(again.end.weights, plan.end.weights);
}

TEST(GlobalForm, GivesTheStartTheShareThatTheNoiseLevelSays) {
  const auto plan = global(dpmpp(6), grid(6));
  for (std::size_t s = 0; s < plan.stages.size(); ++s) {
    const auto& point = plan.stages[s][0];
    EXPECT_NEAR(point.start, point.sigma / 80, 1e-15);
    EXPECT_THAT(point.weights, SizeIs(s));
  }
  EXPECT_NEAR(plan.end.start, 0.002 / 80, 1e-18);
}

/// Midpoint steps of an SDE: noise brings the state up to t_hat before each step but the first.
Plan<double> noisy_plan() {
  PlanBuilder<double> plan;
  auto x = plan.start();
  const std::vector<double> t{80, 9, 1.5, 0.3};
  for (std::size_t n = 0; n + 1 < t.size(); ++n) {
    plan.begin_step({t[n], t[n + 1]}, false);
    const double t_hat = (n > 0 ? 1.1 : 1) * t[n], t_mid = std::sqrt(t_hat * t[n + 1]);
    if (n > 0) x = plan.state(x + std::sqrt(t_hat * t_hat - t[n] * t[n]) * plan.noise());
    const auto x_mid = plan.state(x + (t_mid - t_hat) * (x - plan.denoise(x, t_hat)) / t_hat);
    x = plan.grid_point(x + (t[n + 1] - t_hat) * (x_mid - plan.denoise(x_mid, t_mid)) / t_mid);
  }
  return plan.plan();
}

TEST(GlobalForm, KeepsTheNoiseThatAPlanDraws) {
  const TimeSteps t({80, 9, 1.5, 0.3});
  const auto plan = noisy_plan();
  EXPECT_EQ(plan.draws(), 2);
  expect_same_method(plan, t);
  const auto form = global(plan, t);
  EXPECT_EQ(write_plan(form).draws(), 2);
  EXPECT_THAT(form.stages[1][0].noise, SizeIs(0));
  EXPECT_THAT(form.stages[2][0].noise, SizeIs(1));
  EXPECT_THAT(form.end.noise, SizeIs(2));
  const auto extended = write_plan(with_extra_points(form, 2, 1.65));
  const auto end = end_of(extended), expected = end_of(plan);
  for (std::size_t i = 0; i < end.size(); ++i) EXPECT_NEAR(end[i], expected[i], 1e-12);
}

TEST(LearnedPlan, ScalesItsNoiseWithItsTimes) {
  const TimeSteps t({80, 9, 1.5, 0.3});
  const auto form = global(noisy_plan(), t);
  const std::vector<double> none(num_parameters(form), 0.0);
  EXPECT_EQ(end_of(write_plan(with_parameters(form, {}, none))), end_of(write_plan(form)));
  auto raw = none;
  // x_0 alone, then points with 2 + 1, 2 + 2 and 2 + 3 numbers, of which the third draws noise.
  raw[2 + 1 + 2 + 2] = 0.5;
  const auto moved = with_parameters(form, {}, raw);
  const auto& point = form.stages[3][0];
  ASSERT_FALSE(form.stages[2][0].noise.empty());
  const double factor = moved.stages[2][0].sigma / form.stages[2][0].sigma;
  const double other = moved.stages[3][0].sigma / point.sigma;
  EXPECT_EQ(factor, 1);
  EXPECT_NEAR(other, std::exp(0.02 * 0.5), 1e-15);
  EXPECT_NEAR(moved.stages[3][0].noise[0] / point.noise[0], other, 1e-15);
  EXPECT_EQ(moved.end.noise, form.end.noise);
}

TEST(GlobalForm, BeginsWithTheMeanWhereThePlanDoes) {
  for (const auto& [name, kind] : kSolverNames) {
    SCOPED_TRACE(name);
    const auto plan = make_plan(solver(kind, 0, Afs::kMean, true), grid(5));
    const auto form = global(plan, grid(5));
    EXPECT_TRUE(form.mean);
    const auto whole = write_plan(validated(form));
    EXPECT_EQ(whole.nfe(), plan.nfe());
    // Any image may serve as the mean: here a hundredth of the start.
    const auto end = [&](const Plan<double>& of) {
      auto steps = of;
      steps.instructions.insert(steps.instructions.begin(), Combine<double>{*of.mean, 0.01 * Expression<double>(0)});
      return run_plan(steps, kStart, MixtureDenoiser()).end();
    };
    for (std::size_t i = 0; i < kStart.size(); ++i) EXPECT_NEAR(end(whole)[i], end(plan)[i], 1e-12);
  }
}

TEST(ExtraPoints, LeaveTheEndAsItIs) {
  const auto plan = global(dpmpp(6), grid(6));
  for (const int num_points : {1, 2, 3}) {
    const auto extended = write_plan(validated(with_extra_points(plan, num_points, 1.65)));
    EXPECT_EQ(extended.nfe(), 5);
    EXPECT_EQ(extended.evaluations(), 1 + 4 * num_points);  // the first stage has one state only
    EXPECT_EQ(end_of(extended), end_of(dpmpp(6)));
  }
}

TEST(ExtraPoints, LieOnTheLineToTheStateBefore) {
  const auto plan = with_extra_points(global(dpmpp(4), grid(4)), 3, 1.25);
  for (std::size_t s = 1; s < plan.stages.size(); ++s) {
    const auto& stage = plan.stages[s];
    const auto& before = plan.stages[s - 1][0];
    for (std::size_t k = 1; k < 3; ++k) {
      EXPECT_NEAR(stage[k].sigma, stage[0].sigma * std::pow(1.25, k), 1e-12);
      EXPECT_NEAR(stage[k].start, stage[k].sigma / 80, 1e-15);
      const double share = (stage[k].sigma - stage[0].sigma) / (before.sigma - stage[0].sigma);
      EXPECT_NEAR(stage[k].weights[0], stage[0].weights[0] * (1 - share) + (s > 1 ? before.weights[0] * share : 0),
                  1e-12);
    }
  }
}

TEST(ExtraPoints, StayShortOfTheStateBefore) {
  const auto plan = with_extra_points(global(dpmpp(9), grid(9)), 3, 100);
  for (std::size_t s = 1; s < plan.stages.size(); ++s) {
    EXPECT_LT(plan.stages[s][1].sigma, plan.stages[s][2].sigma);
    EXPECT_LT(plan.stages[s][2].sigma, plan.stages[s - 1][0].sigma);
  }
}

TEST(ExtraPoints, AreInTheFirstStageTooWhereItFollowsTheMean) {
  const auto plan = with_extra_points(
      global(make_plan(solver(solver_kind("unipc"), 3, Afs::kMean, true), grid(6)), grid(6)), 2, 1.65);
  ASSERT_THAT(plan.stages, SizeIs(4));
  EXPECT_EQ(write_plan(validated(plan)).evaluations(), 2 * 4);
  const auto &first = plan.stages[0][0], &extra = plan.stages[0][1];
  EXPECT_NEAR(extra.sigma, 1.65 * first.sigma, 1e-12);
  EXPECT_NEAR(extra.start, extra.sigma / 80, 1e-15);
  EXPECT_NEAR(extra.weights[0], 1 - extra.sigma / 80, 1e-15);  // the straight line from x_0 to the mean
}

/// Every number of a plan, in order.
template <class S>
std::vector<S> numbers_of(const NsPlan<S>& plan) {
  std::vector<S> numbers;
  const auto add = [&](const NsPoint<S>& point) {
    numbers.insert(numbers.end(), {point.sigma, point.start});
    numbers.insert(numbers.end(), point.weights.begin(), point.weights.end());
  };
  for (const auto& stage : plan.stages) {
    for (const auto& point : stage) add(point);
  }
  add(plan.end);
  return numbers;
}

TEST(Learning, BeginsAtTheStartToTheBit) {
  const auto plan = with_extra_points(global(dpmpp(6), grid(6)), 2, 1.65);
  const std::vector<double> raw(num_parameters(plan), 0.0);
  EXPECT_EQ(numbers_of(with_parameters(plan, NsRates(), raw)), numbers_of(plan));
}

TEST(Learning, ChangesEveryGroupByItsOwnRate) {
  const auto plan = global(dpmpp(3), grid(3));  // two stages: x_0; time, sigma and weight of one point; two of the end
  ASSERT_EQ(num_parameters(plan), 5u);
  const auto after =
      with_parameters(plan, {.weights = 0.1, .times = 0.2, .sigmas = 0.3}, std::vector<double>{1, 2, 3, 4, 5});
  const auto& point = plan.stages[1][0];
  EXPECT_EQ(after.stages[0][0].sigma, 80);
  EXPECT_DOUBLE_EQ(after.stages[1][0].start, point.start * std::exp(0.2));
  EXPECT_DOUBLE_EQ(after.stages[1][0].sigma, point.sigma * std::exp(0.2 + 0.6));
  EXPECT_THAT(after.stages[1][0].weights, ElementsAre(point.weights[0] + 0.1 * 3));
  EXPECT_THAT(after.end.weights, ElementsAre(plan.end.weights[0] + 0.1 * 4, plan.end.weights[1] + 0.1 * 5));
  EXPECT_EQ(after.end.start, plan.end.start);
}

TEST(Learning, GradientsAreSlopes) {
  const auto plan = with_extra_points(global(dpmpp(5), grid(5)), 2, 1.65);
  std::vector<double> raw;
  for (std::size_t i = 0; i < num_parameters(plan); ++i) raw.push_back(3 * std::sin(5.0 * (i + 1)));
  std::vector<Dual> learning;
  for (std::size_t i = 0; i < raw.size(); ++i) learning.push_back(Dual::parameter(raw[i], i, raw.size()));
  std::vector<Dual> start;
  for (const double value : kStart) start.emplace_back(value);
  const auto end = run_plan(write_plan(with_parameters(plan, NsRates(), learning)), start, MixtureDenoiser()).end();
  constexpr double kStep = 1e-4;
  for (std::size_t p = 0; p < raw.size(); ++p) {
    const auto end_with = [&](double change) {
      auto there = raw;
      there[p] += change;
      return end_of(write_plan(with_parameters(plan, NsRates(), there)));
    };
    const auto above = end_with(kStep), below = end_with(-kStep);
    for (std::size_t i = 0; i < end.size(); ++i) {
      EXPECT_NEAR(end[i].gradient()[p], (above[i] - below[i]) / (2 * kStep), 1e-8) << "parameter " << p;
    }
  }
}

std::string refusal(const std::function<void(NsPlan<double>&)>& spoil) {
  auto plan = with_extra_points(global(dpmpp(4), grid(4)), 2, 1.65);
  spoil(plan);
  try {
    validated(plan);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(Validation, SaysWhatIsWrongWithAPlan) {
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_EQ(refusal([](auto&) {}), "no error");
  EXPECT_THAT(refusal([](auto& p) { p.stages[1][1].weights.push_back(1); }),
              HasSubstr("plan: stage 1, point 1 has 2 weights, expected one for each of the 1 images denoised before"));
  EXPECT_THAT(refusal([](auto& p) { p.end.weights.pop_back(); }), HasSubstr("plan: the end has 4 weights"));
  EXPECT_THAT(refusal([](auto& p) { p.stages[2][0].sigma = 0; }), HasSubstr("sigma of stage 2, point 0 is 0"));
  EXPECT_THAT(refusal([](auto& p) { p.stages[2][0].sigma = -1; }), HasSubstr("expected a positive number"));
  EXPECT_THAT(refusal([](auto& p) { p.end.sigma = kNan; }), HasSubstr("sigma of the end is nan"));
  EXPECT_THAT(refusal([](auto& p) { p.stages[1][0].start = kNan; }), HasSubstr("start of stage 1, point 0"));
  EXPECT_THAT(refusal([](auto& p) { p.stages[2][1].weights[1] = kNan; }), HasSubstr("a weight of stage 2, point 1"));
  EXPECT_THAT(refusal([](auto& p) { p.stages[1].clear(); }), HasSubstr("stage 1 has no points"));
  EXPECT_THAT(refusal([](auto& p) { p.stages.clear(); }), HasSubstr("no stages"));
  EXPECT_THAT(refusal([](auto& p) { p.t_0 = 0; }), HasSubstr("t_0 is 0"));
}

}  // namespace
}  // namespace epd::testing
