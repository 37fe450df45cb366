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
    case ScheduleKind::kFlowMatch:
      break;
  }
  throw Error("unknown schedule");
}

/// Shifted times do not end at sigma_min, and the last of all is the image itself.
std::vector<double> flow_match(const ScheduleOptions& o, int num_steps) {
  EPD_REQUIRE_USAGE(o.sigma_max <= 1,
                    "schedule_type flowmatch is for flow models, whose times are at most 1; this "
                    "model's noise levels go up to ",
                    o.sigma_max);
  std::vector<double> t;
  for (int i = 0; i + 1 < num_steps; ++i) {
    const double s = i == 0 ? o.sigma_max : o.sigma_max + i / (num_steps - 2.0) * (o.sigma_min - o.sigma_max);
    t.push_back(o.rho * s / (1 + (o.rho - 1) * s));
  }
  if (o.sigma_max == 1) t.front() = 1;  // no shift moves it, free of rounding
  t.push_back(0);
  return t;
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
  if (options.kind == ScheduleKind::kFlowMatch)
    return TimeSteps(flow_match(options, num_steps), TimeSteps::Last::kMayBeZero);
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
    case ScheduleKind::kFlowMatch:
      return text("flowmatch", options.rho);
  }
  throw Error("a schedule without a name");
}

TimeSteps::TimeSteps(std::vector<double> t, Last last) : t_(std::move(t)) {
  EPD_REQUIRE(t_.size() >= 2, "a time grid needs at least 2 points, got ", t_.size());
  for (std::size_t i = 0; i < t_.size(); ++i) {
    const bool positive = t_[i] > 0 || (t_[i] == 0 && i + 1 == t_.size() && last == Last::kMayBeZero);
    EPD_REQUIRE(std::isfinite(t_[i]) && positive, "time grid: point ", i, " is ", t_[i], ", not a positive number");
    EPD_REQUIRE(i == 0 || t_[i] < t_[i - 1], "time grid: point ", i, " is ", t_[i], ", not below ", t_[i - 1]);
  }
}

}  // namespace epd
