#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <vector>

#include "epd/solver/make_plan.h"
#include "support/run_plan.h"

// Networks for which a method has no error at all.
namespace epd::testing {
namespace {

using Function = std::function<double(double)>;

TimeSteps grid(int num_steps) { return make_time_steps({ScheduleKind::kPolynomial, 3, 0.05, 10}, num_steps); }

/// The integral of f over [a, b] by Simpson's rule, far finer than any tolerance here.
double integral(const Function& f, double a, double b) {
  constexpr int kPanels = 20000;
  const double h = (b - a) / kPanels;
  double sum = 0;
  for (int i = 0; i < kPanels; ++i) sum += f(a + i * h) + 4 * f(a + (i + 0.5) * h) + f(a + (i + 1) * h);
  return sum * h / 6;
}

/// A network whose direction (x - D) / sigma is q(sigma), whatever x is.
auto network_of_direction(const Function& q) {
  return [q](const std::vector<double>& x, double sigma) { return std::vector<double>{x[0] - sigma * q(sigma)}; };
}

/// A network whose image depends on the noise level alone.
auto network_of_image(const Function& image) {
  return [image](const std::vector<double>&, double sigma) { return std::vector<double>{image(sigma)}; };
}

/// Every option set of the classical solvers that changes a formula.
std::vector<SolverOptions> every_solver() {
  std::vector<SolverOptions> all;
  for (const auto& [name, kind] : kSolverNames) {
    for (int order = highest_order(kind) > 0 ? 1 : 0; order <= highest_order(kind); ++order) {
      for (const bool data : {true, false}) {
        for (const bool other : {true, false}) {
          SolverOptions options;
          options.kind = kind;
          if (order > 0) options.max_order = order;
          options.predict_x0 = data;
          options.lower_order_final = other;
          options.unipc_variant = other ? UnipcVariant::kBh1 : UnipcVariant::kBh2;
          options.deis_mode = other ? DeisMode::kTimeAb : DeisMode::kRhoAb;
          all.push_back(options);
        }
      }
    }
  }
  return all;
}

/// Holds every step from `first_step` on to x(t_next) = exact(x(t_cur), t).
void expect_exact_steps(const Plan<double>& plan, const PlanRun<double>& run, std::size_t first_step,
                        const std::function<double(double, Interval)>& exact) {
  for (std::size_t n = first_step; n < plan.steps.size(); ++n) {
    const double expected = exact(run.grid[n][0], plan.steps[n].t);
    EXPECT_NEAR(run.grid[n + 1][0], expected, 1e-11 * std::max(1.0, std::abs(expected))) << "step " << n;
  }
}

TEST(Exactness, EverySolverIsExactForAConstantImage) {  // all noise, one image: the ODE's solutions are straight lines
  constexpr double kImage = 0.6;
  for (const auto& options : every_solver()) {
    const auto run = run_plan(make_plan(options, grid(7)), {9.0}, network_of_image([](double) { return kImage; }));
    EXPECT_NEAR(run.end()[0], kImage + (9.0 - kImage) * 0.05 / 10, 1e-13) << name_of(kSolverNames, options.kind);
  }
}

TEST(Exactness, StudentsWithoutScalesAreExactForAConstantImage) {
  for (const auto kind : {StudentKind::kEpd, StudentKind::kIpndm}) {
    const char* name = name_of(kStudentNames, kind);
    PredictorSpec spec;
    spec.parameters().on_ipndm = kind == StudentKind::kIpndm;
    spec.num_steps = 5;
    spec.num_points = 3;
    spec.parameters().scale_dir = 0;
    for (std::size_t i = 0; i < spec.num_parameters(); ++i) spec.parameters().raw.push_back(std::sin(3.0 * (i + 1)));
    const auto run = run_plan(make_plan(spec, grid(5)), {9.0}, network_of_image([](double) { return 0.6; }));
    EXPECT_NEAR(run.end()[0], 0.6 + 8.4 * 0.05 / 10, 1e-13) << name;
  }
}

TEST(Exactness, OfIpndmOnAUniformGridIsForPolynomialsBelowItsOrder) {
  const auto t = make_time_steps({ScheduleKind::kPolynomial, 1, 1, 9}, 9);
  for (int p = 1; p <= 4; ++p) {
    const Function q = [p](double s) { return std::pow(s / 9, p - 1) + 0.3; };
    const auto plan = make_plan({.kind = solver_kind("ipndm"), .max_order = p}, t);
    const auto run = run_plan(plan, {2.0}, network_of_direction(q));
    expect_exact_steps(plan, run, p - 1, [&](double x, Interval i) { return x + integral(q, i.cur, i.next); });
  }
}

TEST(Exactness, OfDeisInTheNoiseLevelIsForPolynomialsOnAnyGrid) {
  for (int p = 1; p <= 4; ++p) {
    const Function q = [p](double s) { return std::pow(s / 9, p - 1) + 0.3; };
    const auto plan = make_plan({.kind = solver_kind("deis"), .max_order = p, .deis_mode = DeisMode::kRhoAb}, grid(9));
    const auto run = run_plan(plan, {2.0}, network_of_direction(q));
    expect_exact_steps(plan, run, p - 1, [&](double x, Interval i) { return x + integral(q, i.cur, i.next); });
  }
}

TEST(Exactness, OfDeisInTheVpTimeIsForPolynomialsInThatTime) {
  const auto clock = VpSigmaMap::between(0.002, 80);
  for (int p = 1; p <= 4; ++p) {
    const Function q = [&](double s) { return std::pow(clock.u(s), p - 1) + 0.3; };
    const auto plan = make_plan({.kind = solver_kind("deis"), .max_order = p}, grid(9));
    const auto run = run_plan(plan, {2.0}, network_of_direction(q));
    // In ln sigma, where the integrand is smooth.
    const Function in_log = [&](double log_s) { return q(std::exp(log_s)) * std::exp(log_s); };
    expect_exact_steps(plan, run, p - 1,
                       [&](double x, Interval i) { return x + integral(in_log, std::log(i.cur), std::log(i.next)); });
  }
}

TEST(Exactness, OfHeunIsForDirectionsLinearInT) {
  const Function q = [](double s) { return 0.4 * s - 1; };
  const auto plan = make_plan({.kind = solver_kind("heun"), .max_order = {}}, grid(5));
  const auto run = run_plan(plan, {2.0}, network_of_direction(q));
  expect_exact_steps(plan, run, 0, [&](double x, Interval i) { return x + integral(q, i.cur, i.next); });
}

/// x(t_next) of the exponential integral for an image that is a polynomial in lambda = -ln t.
double exact_data_step(const Function& image, double x, Interval t) {
  const Function integrand = [&](double lambda) { return std::exp(lambda) * image(std::exp(-lambda)); };
  return t.next / t.cur * x + t.next * integral(integrand, -std::log(t.cur), -std::log(t.next));
}

TEST(Exactness, OfUnipcsCorrectorIsForImagesPolynomialInLambda) {
  // Its predictor's order p needs degree p - 1, the corrector reaches degree p: every step but the last.
  for (const auto variant : {UnipcVariant::kBh1, UnipcVariant::kBh2}) {
    for (const int p : {2, 3}) {
      const Function image = [p](double s) { return std::pow(std::log(s), p) / 4 + 0.2; };
      const auto plan = make_plan(
          {.kind = solver_kind("unipc"), .max_order = p, .lower_order_final = false, .unipc_variant = variant},
          grid(9));
      auto corrected = plan;
      corrected.steps.pop_back();
      expect_exact_steps(corrected, run_plan(plan, {2.0}, network_of_image(image)), p - 1,
                         [&](double x, Interval t) { return exact_data_step(image, x, t); });
    }
  }
}

TEST(Exactness, OfUnipcsThirdOrderPredictorIsForImagesQuadraticInLambda) {
  const Function image = [](double s) { return std::pow(std::log(s), 2) / 4 + 0.2; };
  const auto plan = make_plan({.kind = solver_kind("unipc"), .max_order = 3, .lower_order_final = false}, grid(9));
  const auto run = run_plan(plan, {2.0}, network_of_image(image));
  expect_exact_steps(plan, run, plan.steps.size() - 1,
                     [&](double x, Interval t) { return exact_data_step(image, x, t); });
}

TEST(Exactness, OfDpmppsThirdOrderIsForImagesLinearInLambda) {
  const Function image = [](double s) { return 0.5 * std::log(s) + 0.2; };
  const auto plan = make_plan({.kind = solver_kind("dpmpp"), .max_order = 3, .lower_order_final = false}, grid(9));
  expect_exact_steps(plan, run_plan(plan, {2.0}, network_of_image(image)), 2,
                     [&](double x, Interval t) { return exact_data_step(image, x, t); });
}

}  // namespace
}  // namespace epd::testing
