#include <gtest/gtest.h>

#include <cmath>
#include <optional>
#include <utility>
#include <vector>

#include "epd/solver/make_plan.h"
#include "support/linear_form.h"

// Equalities between methods, as equalities of the coefficients of their plans: true for every network.
namespace epd::testing {
namespace {

// Of the largest coefficient of a state: a few roundings, and in 1 + dt / t most of the 1 cancels.
constexpr double kTolerance = 5e-15;

TimeSteps grid(int num_steps, ScheduleKind kind = ScheduleKind::kPolynomial, double rho = 7) {
  return make_time_steps({kind, rho, 0.002, 80}, num_steps);
}

void expect_same(const Plan<double>& a, const Plan<double>& b, double tolerance = kTolerance) {
  const auto first = linear_form(a), second = linear_form(b);
  ASSERT_EQ(first.sigmas.size(), second.sigmas.size());
  ASSERT_EQ(first.grid.size(), second.grid.size());
  for (std::size_t i = 0; i < first.sigmas.size(); ++i) {
    EXPECT_NEAR(first.sigmas[i] / second.sigmas[i], 1, tolerance) << "evaluation " << i;
    EXPECT_LE(row_distance(first.states[i], second.states[i]), tolerance) << "state of evaluation " << i;
  }
  for (std::size_t n = 0; n < first.grid.size(); ++n) {
    EXPECT_LE(row_distance(first.grid[n], second.grid[n]), tolerance) << "grid point " << n;
  }
}

Plan<double> baseline(SolverKind kind, const TimeSteps& t, std::optional<int> max_order = {}, bool afs = false,
                      bool predict_x0 = true) {
  SolverOptions options;
  options.kind = kind;
  options.max_order = max_order;
  options.afs = afs ? Afs::kAnalytical : Afs::kNo;
  options.predict_x0 = predict_x0;
  options.lower_order_final = false;
  return make_plan(options, t);
}

/// A student with the same raw parameters at all its points, and scales 1.
PredictorSpec student(StudentKind kind, int num_steps, int num_points, double raw_r = 0) {
  PredictorSpec spec;
  spec.parameters().on_ipndm = kind == StudentKind::kIpndm;
  spec.num_steps = num_steps;
  spec.num_points = num_points;
  spec.parameters().scale_dir = spec.parameters().scale_time = 0;
  spec.parameters().raw.assign(spec.num_parameters(), 0.0);
  for (std::size_t i = 0; i < spec.num_parameters() / PredictorSpec::kNumGroups; ++i) spec.parameters().raw[i] = raw_r;
  return spec;
}

PredictorSpec scattered_student(StudentKind kind, int num_steps, int num_points) {
  auto spec = student(kind, num_steps, num_points);
  spec.parameters().scale_dir = 0.1;
  spec.parameters().scale_time = 0.2;
  for (std::size_t i = 0; i < spec.parameters().raw.size(); ++i) spec.parameters().raw[i] = std::sin(7.0 * (i + 1));
  return spec;
}

TEST(Equality, EveryFirstOrderMethodIsEuler) {
  for (const bool afs : {false, true}) {
    for (const auto kind : {ScheduleKind::kPolynomial, ScheduleKind::kLogSnr}) {
      const auto t = grid(8, kind);
      const auto euler = baseline(solver_kind("euler"), t, {}, afs);
      expect_same(euler, baseline(solver_kind("ipndm"), t, 1, afs));
      expect_same(euler, baseline(solver_kind("deis"), t, 1, afs));
      expect_same(euler, baseline(solver_kind("dpmpp"), t, 1, afs, true));
      expect_same(euler, baseline(solver_kind("dpmpp"), t, 1, afs, false));
    }
  }
}

TEST(Equality, UnipcsFirstPredictorIsEuler) {  // its only step is the last one, which is not corrected
  for (const double t_next : {79.0, 5.0, 0.002}) {
    const TimeSteps t({80, t_next});
    for (const bool data : {true, false}) {
      expect_same(baseline(solver_kind("euler"), t), baseline(solver_kind("unipc"), t, 3, false, data));
    }
  }
}

TEST(Equality, DpmppsFormsAgreeUntilASecondOrderStepFollowsAnother) {
  const auto t = grid(5);
  const auto data = linear_form(baseline(solver_kind("dpmpp"), t, 2, false, true));
  const auto noise = linear_form(baseline(solver_kind("dpmpp"), t, 2, false, false));
  // After an Euler step, differences of directions are differences of images; afterwards these are two methods.
  EXPECT_LE(row_distance(data.grid[2], noise.grid[2]), kTolerance);
  EXPECT_GT(row_distance(data.grid[3], noise.grid[3]), 1e-3);
}

TEST(Equality, EpdWithOneCentredPointIsDpm2) {
  for (const bool afs : {false, true}) {
    const auto t = grid(6);
    auto spec = student(StudentKind::kEpd, 6, 1);
    spec.afs = afs ? Afs::kAnalytical : Afs::kNo;
    expect_same(make_plan(spec, t), baseline(solver_kind("dpm"), t, {}, afs));
  }
}

TEST(Equality, EqualPointsAreOnePoint) {
  const auto t = grid(5);
  for (const auto kind : {StudentKind::kEpd, StudentKind::kIpndm}) {
    const auto one = make_plan(student(kind, 5, 1, 0.3), t);
    for (const int num_points : {2, 3, 4}) expect_same(make_plan(student(kind, 5, num_points, 0.3), t), one);
  }
}

TEST(Equality, EpdOnIpndmOfOrderOneIsEpd) {
  const auto t = grid(6);
  auto spec = scattered_student(StudentKind::kIpndm, 6, 3);
  spec.parameters().max_order = 1;
  expect_same(make_plan(spec, t), make_plan(scattered_student(StudentKind::kEpd, 6, 3), t));
}

TEST(Equality, TheOrderOfThePointsDoesNotMatter) {
  const auto t = grid(4);
  const auto spec = scattered_student(StudentKind::kEpd, 4, 2);
  auto swapped = spec;
  for (std::size_t i = 0; i < spec.parameters().raw.size(); i += 2)
    std::swap(swapped.parameters().raw[i], swapped.parameters().raw[i + 1]);
  const auto a = linear_form(make_plan(spec, t)), b = linear_form(make_plan(swapped, t));
  // One step: x and D_cur have the same coefficients, the two points' outputs change places.
  ASSERT_EQ(a.grid[1].size(), 4u);
  EXPECT_NEAR(a.grid[1][2], b.grid[1][3], 1e-15);
  EXPECT_NEAR(a.grid[1][3], b.grid[1][2], 1e-15);
}

TEST(Equality, DeisInTheNoiseLevelIsVariableStepAdamsBashforth) {
  const std::vector<double> nodes{1.3, 2.0};
  const double t_next = 1.1, h = t_next - nodes[0], g = nodes[0] - nodes[1];
  const auto weights = deis_weights(DeisMode::kRhoAb, nodes, t_next, VpSigmaMap::between(0.002, 80));
  EXPECT_NEAR(weights[0], h + h * h / (2 * g), 1e-15);
  EXPECT_NEAR(weights[1], -h * h / (2 * g), 1e-15);
}

TEST(Equality, DeisInTheNoiseLevelOnAUniformGridIsIpndm) {
  const auto t = grid(9, ScheduleKind::kPolynomial, 1);
  SolverOptions deis;
  deis.kind = solver_kind("deis");
  deis.deis_mode = DeisMode::kRhoAb;
  for (int p = 1; p <= 4; ++p) {
    deis.max_order = p;
    expect_same(make_plan(deis, t), baseline(solver_kind("ipndm"), t, p), 1e-14);  // sums of a quadrature
  }
}

TEST(Equality, UnipcsVariantsDifferOnlyWhereNothingIsSolved) {
  for (const double hh : {-0.7, 1.3}) {
    for (const auto& ratios : {std::vector<double>{-1.5, 1}, std::vector<double>{-1.1, -0.4, 1}}) {
      const auto bh1 = unipc_weights(ratios, hh, UnipcVariant::kBh1),
                 bh2 = unipc_weights(ratios, hh, UnipcVariant::kBh2);
      for (std::size_t j = 0; j < ratios.size(); ++j) EXPECT_NEAR(bh1[j] * hh, bh2[j] * std::expm1(hh), 1e-14);
    }
  }
  const auto t = grid(6);
  SolverOptions options{.kind = solver_kind("unipc"), .max_order = 2, .unipc_variant = UnipcVariant::kBh1};
  const auto bh1 = linear_form(make_plan(options, t));
  options.unipc_variant = UnipcVariant::kBh2;
  const auto bh2 = linear_form(make_plan(options, t));
  EXPECT_GT(row_distance(bh1.grid[1], bh2.grid[1]), 1e-3);  // the first corrector takes 1/2
}

TEST(Equality, InnerStepsAreTheSameSolverOnTheFinerGrid) {
  const auto t = grid(4);
  std::vector<double> fine{t[0]};
  for (std::size_t n = 0; n < t.num_intervals(); ++n) {
    const auto inner = make_time_steps({ScheduleKind::kPolynomial, 7, t[n + 1], t[n]}, 4);
    fine.insert(fine.end(), inner.values().begin() + 1, inner.values().end());
  }
  for (const auto& [name, kind] : kSolverNames) {
    if (!knows(kind, "inner_steps")) continue;
    const SolverOptions options{.kind = kind, .max_order = {}, .afs = Afs::kAnalytical, .inner_steps = 4};
    const auto refined = linear_form(make_plan(options, t));
    const auto plain = linear_form(baseline(kind, TimeSteps(fine), {}, true));
    ASSERT_EQ(refined.grid.size(), t.size());
    for (std::size_t n = 0; n < t.size(); ++n) EXPECT_LE(row_distance(refined.grid[n], plain.grid[3 * n]), kTolerance);
  }
}

}  // namespace
}  // namespace epd::testing
