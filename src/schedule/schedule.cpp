#include "epd/schedule/schedule.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <iomanip>
#include <utility>

#include "epd/core/error.h"

namespace epd {
namespace {

/// (a^(1/rho) + f (b^(1/rho) - a^(1/rho)))^rho.
double power_interpolation(double a, double b, double fraction, double rho) {
  const double root_a = std::pow(a, 1 / rho), root_b = std::pow(b, 1 / rho);
  return std::pow(root_a + fraction * (root_b - root_a), rho);
}

double time_at(const ScheduleOptions& o, double fraction, const SigmaMap* map) {
  switch (o.kind) {
    case ScheduleKind::kPolynomial:
      return power_interpolation(o.sigma_max, o.sigma_min, fraction, o.rho);
    case ScheduleKind::kLogSnr:
      return std::exp(std::log(o.sigma_max) + fraction * (std::log(o.sigma_min) - std::log(o.sigma_max)));
    case ScheduleKind::kTimeUniform: {
      constexpr double kEps = 1e-3;  // DPM-Solver's smallest time
      const double u = power_interpolation(1, kEps, fraction, o.rho);
      return VpSigmaMap::between(o.sigma_min, o.sigma_max, kEps).sigma(u);
    }
    case ScheduleKind::kDiscrete: {
      const double u_max = map->u(o.sigma_max), u_min = map->u(o.sigma_min);
      // As published: u_max enters without its root, so u runs from u_max^rho; equal to u_max only for rho 1.
      return map->sigma(std::pow(u_max + fraction * (std::pow(u_min, 1 / o.rho) - u_max), o.rho));
    }
  }
  throw Error("unknown schedule");
}

}  // namespace

const ScheduleOptions& ScheduleOptions::validated() const {
  EPD_REQUIRE_USAGE(std::isfinite(rho) && rho > 0, "schedule_rho: expected a positive number, got ", rho);
  EPD_REQUIRE_USAGE(std::isfinite(sigma_min) && std::isfinite(sigma_max) && 0 < sigma_min && sigma_min < sigma_max,
                    "sigma range: expected 0 < sigma_min < sigma_max, got ", sigma_min, " and ", sigma_max);
  return *this;
}

TimeSteps make_time_steps(const ScheduleOptions& options, int num_steps, const SigmaMap* map) {
  options.validated();
  EPD_REQUIRE_USAGE(num_steps >= ScheduleOptions::kMinSteps && num_steps <= ScheduleOptions::kMaxSteps,
                    "num_steps: expected ", ScheduleOptions::kMinSteps, " to ", ScheduleOptions::kMaxSteps, ", got ",
                    num_steps);
  EPD_REQUIRE_USAGE(options.kind != ScheduleKind::kDiscrete || map != nullptr,
                    "schedule_type discrete needs a model with a noise table, and this one has none; use polynomial, "
                    "logsnr or time_uniform");
  std::vector<double> t;
  for (int i = 0; i < num_steps; ++i) t.push_back(time_at(options, static_cast<double>(i) / (num_steps - 1), map));
  // The ends are the range itself, free of rounding; `discrete` with rho other than 1 starts elsewhere, as published.
  if (options.kind != ScheduleKind::kDiscrete || options.rho == 1) t.front() = options.sigma_max;
  t.back() = options.sigma_min;
  const bool fall = std::ranges::all_of(t, [](double value) { return std::isfinite(value) && value > 0; }) &&
                    std::ranges::adjacent_find(t, std::less_equal<>()) == t.end();
  EPD_REQUIRE_USAGE(fall, "schedule_rho: ", num_steps, " timestamps do not fall from one to the next with ",
                    options.rho, "; use a value nearer to 1");
  return TimeSteps(std::move(t));
}

std::string schedule_tag(const ScheduleOptions& options) {
  switch (options.kind) {
    case ScheduleKind::kPolynomial:
      return text("poly", options.rho);
    case ScheduleKind::kLogSnr:
      return "logsnr";
    case ScheduleKind::kTimeUniform:
      return text("uni", std::fixed, std::setprecision(1), options.rho);
    case ScheduleKind::kDiscrete:
      return "discrete";
  }
  throw Error("a schedule without a name");
}

TimeSteps::TimeSteps(std::vector<double> t) : t_(std::move(t)) {
  EPD_REQUIRE(t_.size() >= 2, "a time grid needs at least 2 points, got ", t_.size());
  for (std::size_t i = 0; i < t_.size(); ++i) {
    EPD_REQUIRE(std::isfinite(t_[i]) && t_[i] > 0, "time grid: point ", i, " is ", t_[i], ", not a positive number");
    EPD_REQUIRE(i == 0 || t_[i] < t_[i - 1], "time grid: point ", i, " is ", t_[i], ", not below ", t_[i - 1]);
  }
}

}  // namespace epd
