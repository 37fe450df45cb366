#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <variant>
#include <vector>

#include "epd/solver/make_plan.h"
#include "support/closed_denoisers.h"
#include "support/golden_solvers.h"
#include "support/run_plan.h"

// How the numbers of a student's plan move with its raw parameters.
namespace epd::testing {
namespace {

using nlohmann::json;

PredictorSpec student(StudentKind kind, int num_points, bool fcn) {
  PredictorSpec spec;
  spec.parameters().on_ipndm = kind == StudentKind::kIpndm;
  spec.num_steps = 5;
  spec.num_points = num_points;
  spec.afs = Afs::kAnalytical;
  spec.parameters().fcn = fcn;
  spec.parameters().max_order = 3;
  spec.parameters().scale_dir = 0.1;
  spec.parameters().scale_time = 0.2;
  for (std::size_t i = 0; i < spec.num_parameters(); ++i)
    spec.parameters().raw.push_back(1.5 * std::sin(5.0 * (i + 1)));
  return spec;
}

std::vector<Dual> learning(const PredictorSpec& spec) {
  std::vector<Dual> raw;
  for (std::size_t i = 0; i < spec.parameters().raw.size(); ++i) {
    raw.push_back(Dual::parameter(spec.parameters().raw[i], i, spec.parameters().raw.size()));
  }
  return raw;
}

Plan<Dual> learning_plan(const PredictorSpec& spec, const TimeSteps& t) {
  auto solver = student_solver(spec, learning(spec));
  PlanBuilder<Dual> plan;
  auto x = plan.start();
  for (std::size_t n = 0; n < t.num_intervals(); ++n) x = append_step(plan, solver, x, t, n, spec.afs);
  return plan.plan();
}

/// Every coefficient and noise level of a plan, in order.
template <class S>
std::vector<S> numbers_of(const Plan<S>& plan) {
  std::vector<S> numbers;
  for (const auto& instruction : plan.instructions) {
    if (const auto* combine = std::get_if<Combine<S>>(&instruction)) {
      for (const auto& term : combine->sum.terms()) numbers.push_back(term.coefficient);
    } else if (const auto* evaluate = std::get_if<Evaluate<S>>(&instruction)) {
      numbers.insert(numbers.end(), evaluate->sigmas.begin(), evaluate->sigmas.end());
    }
  }
  return numbers;
}

std::vector<double> numbers_with(PredictorSpec spec, std::size_t parameter, double change, const TimeSteps& t) {
  spec.parameters().raw[parameter] += change;
  return numbers_of(make_plan(spec, t));
}

double slope_of(const Dual& number, std::size_t parameter) {
  return number.gradient().empty() ? 0 : number.gradient()[parameter];
}

/// Holds the gradient of every number to central differences of the plans of plain numbers. Coefficients do not pass
/// through registers, so that a detached history makes no difference here: its own part is constant either way.
void expect_slopes(const PredictorSpec& spec, const TimeSteps& t) {
  const auto numbers = numbers_of(learning_plan(spec, t));
  const auto plain = numbers_of(make_plan(spec, t));
  ASSERT_EQ(numbers.size(), plain.size());
  for (std::size_t i = 0; i < plain.size(); ++i) EXPECT_EQ(numbers[i].value(), plain[i]);
  constexpr double kStep = 1e-5;
  for (std::size_t p = 0; p < spec.parameters().raw.size(); ++p) {
    const auto above = numbers_with(spec, p, kStep, t), below = numbers_with(spec, p, -kStep, t);
    for (std::size_t i = 0; i < plain.size(); ++i) {
      const double expected = (above[i] - below[i]) / (2 * kStep);
      EXPECT_NEAR(slope_of(numbers[i], p), expected, 1e-7 * std::max(1.0, std::abs(plain[i])))
          << "number " << i << ", parameter " << p;
    }
  }
}

TEST(Gradients, OfEveryCoefficientAreItsSlopes) {
  const auto t = make_time_steps({ScheduleKind::kTimeUniform, 1, 0.002, 80}, 5);
  for (const auto kind : {StudentKind::kEpd, StudentKind::kIpndm}) {
    const char* name = name_of(kStudentNames, kind);
    for (int num_points = 1; num_points <= 4; ++num_points) {
      for (const bool fcn : {false, true}) {
        SCOPED_TRACE(text(name, ", ", num_points, " points, fcn ", fcn));
        expect_slopes(student(kind, num_points, fcn), t);
      }
    }
  }
}

TEST(Gradients, OfParametersThatDoNothingAreZero) {
  auto spec = student(StudentKind::kEpd, 2, true);
  spec.parameters().scale_time = 0;
  const auto t = make_time_steps({}, 5);
  for (const Dual& number : numbers_of(learning_plan(spec, t))) {
    for (std::size_t k = 0; k < 2; ++k) {
      for (std::size_t n = 0; n < 4; ++n) EXPECT_EQ(slope_of(number, spec.index(PredictorSpec::kScaleTime, n, k)), 0);
      EXPECT_EQ(slope_of(number, spec.index(PredictorSpec::kScaleDir, 3, k)), 0);  // fcn: 1 in the last step
    }
  }
}

TEST(Gradients, OfHugeRawParametersAreFinite) {
  auto spec = student(StudentKind::kEpd, 2, false);
  for (std::size_t i = 0; i < spec.parameters().raw.size(); ++i) spec.parameters().raw[i] = i % 3 == 0 ? 800 : -800;
  for (const Dual& number : numbers_of(learning_plan(spec, make_time_steps({}, 5)))) {
    EXPECT_TRUE(std::isfinite(number.value()));
    for (const double slope : number.gradient()) EXPECT_TRUE(std::isfinite(slope));
  }
}

TEST(Gradients, OfIpndmStopAtItsHistory) {
  const auto plan = learning_plan(student(StudentKind::kIpndm, 2, false), make_time_steps({}, 5));
  int detached_terms = 0;
  for (std::size_t n = 0; n < plan.steps.size(); ++n) {
    for (std::size_t i = plan.steps[n].first; i < plan.steps[n].last; ++i) {
      const auto* combine = std::get_if<Combine<Dual>>(&plan.instructions[i]);
      if (combine == nullptr) continue;
      for (const auto& term : combine->sum.terms()) detached_terms += term.detached;
    }
    EXPECT_EQ(detached_terms > 0, n > 0) << "step " << n;  // the first step has no history
  }
}

TEST(Gradients, OfEpdAreNeverDetached) {
  for (const auto& instruction :
       learning_plan(student(StudentKind::kEpd, 2, false), make_time_steps({}, 5)).instructions) {
    if (const auto* combine = std::get_if<Combine<Dual>>(&instruction)) {
      for (const auto& term : combine->sum.terms()) EXPECT_FALSE(term.detached);
    }
  }
}

/// The gradient of a squared distance, summed over the coordinates and averaged over the batch, carried forward.
std::vector<double> gradient_of_distance(const std::vector<Dual>& state, const std::vector<double>& target, int batch) {
  Dual loss(0);
  for (std::size_t i = 0; i < state.size(); ++i) loss += (state[i] - Dual(target[i])) * (state[i] - Dual(target[i]));
  loss /= Dual(batch);
  return loss.gradient();
}

/// The first iteration of the published training, up to the first update of the parameters.
TEST(Gradients, AreThoseOfThePublishedTraining) {
  int compared = 0;
  for (const json& golden : golden_cases("training")) {
    const auto& options = golden.at("options");
    if (options.at("last_loss") != "l2") continue;
    const auto spec = golden_predictor(golden, options.at("sampler_stu"));
    const TimeSteps t(golden.at("t_steps").get<std::vector<double>>());
    std::vector<Dual> start;
    for (const double value : golden.at("starts")[0]) start.emplace_back(value);
    const auto run = run_plan(learning_plan(spec, t), start, golden_denoiser(golden));
    const bool per_step = options.at("objective") == "per_step";
    const auto& step = golden.at("steps")[per_step ? 0 : t.num_intervals() - 1];
    const auto& state = run.grid[step.at("step").get<std::size_t>() + 1];
    const auto gradient =
        gradient_of_distance(state, step.at("target").get<std::vector<double>>(), golden.at("shape")[0].get<int>());
    std::size_t i = 0;
    for (const char* group : {"r_params", "weight_s", "scale_dir_params", "scale_time_params"}) {
      const std::size_t size = spec.num_parameters() / PredictorSpec::kNumGroups;
      std::vector<double> expected;
      if (step.at("gradients").contains(group)) {
        for (const auto& row : step.at("gradients").at(group)) {
          for (const double value : row) expected.push_back(value);
        }
      }
      expected.resize(size);  // a group without a gradient is not learned
      for (const double value : expected) {
        EXPECT_NEAR(gradient[i], value, 1e-9 * std::max(1.0, std::abs(value))) << golden.at("name") << ", " << group;
        ++i;
      }
    }
    ++compared;
  }
  EXPECT_GE(compared, 9);
}

}  // namespace
}  // namespace epd::testing
