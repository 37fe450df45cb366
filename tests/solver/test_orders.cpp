#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "epd/solver/make_plan.h"
#include "support/closed_denoisers.h"
#include "support/run_plan.h"

// Observed orders of convergence: log2(error(n) / error(2 n)) on data whose ODE is solved exactly.
namespace epd::testing {
namespace {

constexpr double kFrom = 4, kTo = 0.5;
const std::vector<double> kStarts{-3, -0.8, 0.3, 2.3};  // several, or an error that changes its sign looks small

/// Data with a known end state of the ODE.
struct Problem {
  std::function<double(double x, double sigma)> denoise;
  std::function<double(double x, double from, double to)> exact;
};

Problem gaussian() {
  const GaussianDenoiser data{0.5};
  return {[data](double x, double sigma) { return data({x}, sigma)[0]; },
          [data](double x, double from, double to) { return data.exact(x, from, to); }};
}

Problem mixture() {
  const Mixture data{0.1, 0.7, 0.5};
  return {[data](double x, double sigma) { return data(x, sigma); },
          [data](double x, double from, double to) { return data.exact(x, from, to); }};
}

/// Root of the mean squared error of the end states.
double end_error(const Plan<double>& plan, const Problem& problem) {
  const auto denoise = [&](const std::vector<double>& x, double sigma) {
    std::vector<double> result;
    for (const double v : x) result.push_back(problem.denoise(v, sigma));
    return result;
  };
  const auto end = run_plan(plan, kStarts, denoise).end();
  double sum = 0;
  for (std::size_t i = 0; i < end.size(); ++i) {
    sum += std::pow(end[i] - problem.exact(kStarts[i], kFrom, kTo), 2) / static_cast<double>(end.size());
  }
  return std::sqrt(sum);
}

double observed_order(const std::function<double(int)>& error, int n) { return std::log2(error(n) / error(2 * n)); }

/// n equal steps in ln t, but the first one split: a multistep method starts with lower orders, and its first steps
/// must be short so that they do not hide the order that it has afterwards.
TimeSteps short_start_grid(int n) {
  const double h = 1.0 / n;
  const auto at = [](double fraction) { return kFrom * std::pow(kTo / kFrom, fraction); };
  const double first = h * h, second = first + std::pow(h, 1.5), third = second + std::pow(h, 1.25);
  std::vector<double> t{at(0), at(first), at(second), at(third)};
  for (int i = 1; i <= n; ++i) t.push_back(at(i * h));
  return TimeSteps(t);
}

struct Method {
  std::string name;
  SolverOptions options;
  int order;

  friend void PrintTo(const Method& method, std::ostream* out) { *out << method.name; }
};

/// The options of a solver that change its formula, with their names.
std::vector<std::pair<std::string, SolverOptions>> variants_of(SolverKind kind) {
  std::vector<std::pair<std::string, SolverOptions>> all{
      {"", {.kind = kind, .max_order = {}, .lower_order_final = false}}};
  const auto multiply = [&](const char* option, const auto& names, auto SolverOptions::*member) {
    if (!knows(kind, option)) return;
    std::vector<std::pair<std::string, SolverOptions>> more;
    for (const auto& [variant, options] : all) {
      for (const auto& [name, value] : names) {
        more.push_back({variant + "_" + name, options});
        more.back().second.*member = value;
      }
    }
    all = more;
  };
  multiply("predict_x0", NameTable<bool, 2>{{{"data", true}, {"noise", false}}}, &SolverOptions::predict_x0);
  multiply("unipc_variant", kUnipcVariantNames, &SolverOptions::unipc_variant);
  multiply("deis_mode", kDeisModeNames, &SolverOptions::deis_mode);
  return all;
}

std::vector<Method> methods() {
  std::vector<Method> all;
  for (const auto& [name, kind] : kSolverNames) {
    const int highest = highest_order(kind);
    for (int max_order = 1; max_order <= std::max(highest, 1); ++max_order) {
      for (auto [variant, options] : variants_of(kind)) {
        if (highest > 0) options.max_order = max_order;
        all.push_back({name + (highest > 0 ? std::to_string(max_order) : "") + variant, options,
                       info_of(kind).orders[static_cast<std::size_t>(max_order) - 1]});
      }
    }
  }
  return all;
}

class SolverOrder : public ::testing::TestWithParam<Method> {
 protected:
  double observed(const Problem& problem) const {
    const int n = GetParam().order < 4 ? 256 : 96;  // the higher the order, the sooner rounding shows
    return observed_order(
        [&](int steps) { return end_error(make_plan(GetParam().options, short_start_grid(steps)), problem); }, n);
  }
};

TEST_P(SolverOrder, OnGaussianDataIsThatOfTheory) {
  // The warm-up of this one, of order 4 as well, has an error of the other sign.
  EXPECT_NEAR(observed(gaussian()), GetParam().order, GetParam().name == "deis4_logrho" ? 0.2 : 0.1);
}

TEST_P(SolverOrder, OnAMixtureIsThatOfTheory) {
  // Order 4 meets rounding before the next term of its error has gone.
  EXPECT_NEAR(observed(mixture()), GetParam().order, GetParam().order < 4 ? 0.1 : 0.15);
}

INSTANTIATE_TEST_SUITE_P(Every, SolverOrder, ::testing::ValuesIn(methods()), ::testing::PrintToStringParamName());

/// iPNDM on n equal steps in t, where its constant coefficients are Adams-Bashforth's. Its warm-up states are as good
/// as exact, by many small steps of Heun's method: the solver sees them, and what it makes of them is left aside.
Plan<double> ipndm_plan(int order, int n) {
  const auto at_time = [n](int i) { return kFrom + (kTo - kFrom) * i / n; };
  IpndmSolver solver({.max_order = order});
  HeunSolver heun;
  PlanBuilder<double> plan;
  auto x = plan.start();
  for (int i = 0; i < n; ++i) {
    const Interval t{at_time(i), at_time(i + 1)};
    auto x_next = solver.step(plan, x, {t, i, n, Afs::kNo});
    if (i + 1 < order) {
      constexpr int kSmallSteps = 200;
      x_next = x;
      for (int m = 0; m < kSmallSteps; ++m) {
        const Interval small{t.cur + t.dt() * m / kSmallSteps, t.cur + t.dt() * (m + 1) / kSmallSteps};
        x_next = plan.state(heun.step(plan, x_next, {small, m, kSmallSteps, Afs::kNo}));
      }
    }
    x = plan.grid_point(x_next);
  }
  return plan.plan();
}

TEST(IpndmOrder, OnAUniformGridIsThatOfAdamsBashforth) {
  for (int p = 1; p <= 4; ++p) {
    for (const auto& [name, problem] : {std::pair{"gaussian", gaussian()}, {"mixture", mixture()}}) {
      const auto error = [&, &problem = problem](int n) { return end_error(ipndm_plan(p, n), problem); };
      EXPECT_NEAR(observed_order(error, 256), p, 0.1) << "order " << p << ", " << name;
    }
  }
}

TEST(IpndmOrder, OnOtherGridsIsAtMostTwo) {  // whose steps change, and the coefficients do not
  for (int p = 2; p <= 4; ++p) {
    const SolverOptions options{.kind = solver_kind("ipndm"), .max_order = p};
    const auto error = [&](int n) { return end_error(make_plan(options, short_start_grid(n)), mixture()); };
    EXPECT_NEAR(observed_order(error, 256), 2, 0.1) << p;
  }
}

/// A student whose K points all lie at r = 1/2 (raw parameters 0) is DPM-Solver-2; any other r keeps order 1 only.
PredictorSpec student(int n, StudentKind kind, double raw_r) {
  PredictorSpec spec;
  spec.parameters().on_ipndm = kind == StudentKind::kIpndm;
  spec.num_steps = n + 1;
  spec.parameters().scale_dir = spec.parameters().scale_time = 0;
  spec.parameters().raw.assign(spec.num_parameters(), 0.0);
  for (std::size_t i = 0; i < spec.num_parameters() / PredictorSpec::kNumGroups; ++i) spec.parameters().raw[i] = raw_r;
  return spec;
}

double student_order(StudentKind kind, double raw_r) {
  const auto error = [&](int n) {
    const ScheduleOptions grid{ScheduleKind::kLogSnr, 1, kTo, kFrom};
    return end_error(make_plan(student(n, kind, raw_r), make_time_steps(grid, n + 1)), mixture());
  };
  return observed_order(error, 256);
}

TEST(StudentOrder, IsTwoWithItsPointsInTheMiddle) { EXPECT_NEAR(student_order(StudentKind::kEpd, 0), 2, 0.1); }

TEST(StudentOrder, IsOneWithItsPointsElsewhere) { EXPECT_NEAR(student_order(StudentKind::kEpd, 1), 1, 0.1); }

TEST(StudentOrder, OnIpndmIsTwoWithItsPointsInTheMiddle) { EXPECT_NEAR(student_order(StudentKind::kIpndm, 0), 2, 0.1); }

}  // namespace
}  // namespace epd::testing
