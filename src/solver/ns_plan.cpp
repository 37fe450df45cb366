#include "epd/solver/ns_plan.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "epd/core/error.h"

namespace epd {
namespace {

using Row = std::vector<double>;

/// sum += factor * row, of which either may be the longer one.
void add_to(Row& sum, double factor, const Row& row) {
  sum.resize(std::max(sum.size(), row.size()));
  for (std::size_t i = 0; i < row.size(); ++i) sum[i] += factor * row[i];
}

/// A register's state, with the weights of `num_denoised` images.
NsPoint<double> point_of(NsPoint<double> state, double sigma, std::size_t num_denoised) {
  state.sigma = sigma;
  state.weights.resize(num_denoised);
  return state;
}

/// The sum of states, without a noise level.
NsPoint<double> sum_of(const Expression<double>& sum, const std::map<Register, NsPoint<double>>& states) {
  NsPoint<double> result{};
  for (const auto& term : sum.terms()) {
    const auto& source = states.at(term.source);
    result.start += term.coefficient * source.start;
    add_to(result.weights, term.coefficient, source.weights);
    add_to(result.noise, term.coefficient, source.noise);
  }
  return result;
}

/// The row of one image, or draw of noise.
Row unit_row(std::size_t index) {
  Row row(index + 1);
  row.back() = 1;
  return row;
}

void check_point(const NsPoint<double>& point, std::size_t num_denoised, const std::string& name, bool is_end = false) {
  EPD_REQUIRE(point.weights.size() == num_denoised, "plan: ", name, " has ", point.weights.size(),
              " weights, expected one for each of the ", num_denoised, " images denoised before it");
  EPD_REQUIRE(std::isfinite(point.sigma) && (point.sigma > 0 || (is_end && point.sigma == 0)), "plan: sigma of ", name,
              " is ", point.sigma, ", expected a positive number");
  EPD_REQUIRE(std::isfinite(point.start), "plan: start of ", name, " is not a finite number");
  const auto finite = [](const Row& row) {
    return std::ranges::all_of(row, [](double w) { return std::isfinite(w); });
  };
  EPD_REQUIRE(finite(point.weights), "plan: a weight of ", name, " is not a finite number");
  EPD_REQUIRE(finite(point.noise), "plan: a share of noise of ", name, " is not a finite number");
}

/// The point in a plan with more denoised images: old image i is new image columns[i].
NsPoint<double> widened(NsPoint<double> point, const std::vector<std::size_t>& columns, std::size_t num_denoised) {
  Row weights(num_denoised);
  for (std::size_t i = 0; i < point.weights.size(); ++i) weights[columns[i]] = point.weights[i];
  point.weights = std::move(weights);
  return point;
}

/// The state at noise level `sigma` on the line through two states.
NsPoint<double> between(const NsPoint<double>& a, const NsPoint<double>& b, double sigma) {
  const double share = a.sigma == b.sigma ? 0 : (sigma - a.sigma) / (b.sigma - a.sigma);
  NsPoint<double> result{sigma, (1 - share) * a.start + share * b.start, {}};
  for (const auto& [factor, point] : {std::pair(1 - share, &a), std::pair(share, &b)}) {
    add_to(result.weights, factor, point->weights);
    add_to(result.noise, factor, point->noise);
  }
  return result;
}

}  // namespace

template <class S>
std::size_t NsPlan<S>::num_points() const {
  std::size_t most = 0;
  for (const auto& stage : stages) most = std::max(most, stage.size());
  return most;
}

const NsPlan<double>& validated(const NsPlan<double>& plan) {
  EPD_REQUIRE(std::isfinite(plan.t_0) && plan.t_0 > 0, "plan: t_0 is ", plan.t_0, ", expected a positive number");
  EPD_REQUIRE(!plan.stages.empty(), "plan: it has no stages");
  std::size_t num_denoised = plan.mean ? 1 : 0;
  for (std::size_t s = 0; s < plan.stages.size(); ++s) {
    EPD_REQUIRE(!plan.stages[s].empty(), "plan: stage ", s, " has no points");
    for (std::size_t k = 0; k < plan.stages[s].size(); ++k) {
      check_point(plan.stages[s][k], num_denoised, text("stage ", s, ", point ", k));
    }
    num_denoised += plan.stages[s].size();
  }
  check_point(plan.end, num_denoised, "the end", /*is_end=*/true);
  return plan;
}

template <class S>
Plan<S> write_plan(const NsPlan<S>& ns) {
  PlanBuilder<S> plan;
  std::vector<Expression<S>> images, noise;
  const auto state_of = [&](const NsPoint<S>& point) {
    auto x = point.start * plan.start();
    for (std::size_t i = 0; i < images.size(); ++i) x += point.weights[i] * images[i];
    while (noise.size() < point.noise.size()) noise.push_back(plan.noise());
    for (std::size_t i = 0; i < point.noise.size(); ++i) x += point.noise[i] * noise[i];
    return x;
  };
  if (ns.mean) {
    plan.begin_step({ns.t_0, value_of(ns.stages[0][0].sigma)}, true);
    images.push_back(plan.mean());
  }
  const auto time_of = [&](std::size_t s) {
    return value_of(s < ns.stages.size() ? ns.stages[s][0].sigma : ns.end.sigma);
  };
  for (std::size_t s = 0; s < ns.stages.size(); ++s) {
    // The run begins at t_0, though its first point may be a step further by itself (AFS).
    plan.begin_step({s == 0 && !ns.mean ? ns.t_0 : time_of(s), time_of(s + 1)}, false);
    std::vector<Expression<S>> states;
    std::vector<S> sigmas;
    for (const auto& point : ns.stages[s]) {
      states.push_back(state_of(point));
      sigmas.push_back(point.sigma);
    }
    for (auto& image : plan.denoise(states, sigmas)) images.push_back(std::move(image));
  }
  plan.grid_point(state_of(ns.end));
  return plan.plan();
}

NsPlan<double> global_form(const Plan<double>& plan, double t_0, double t_end) {
  NsPlan<double> result;
  result.t_0 = t_0;
  std::map<Register, NsPoint<double>> states{{0, {t_0, 1, {}}}};
  std::size_t num_denoised = 0, num_noise = 0;
  if (plan.mean) {
    result.mean = true;
    states[*plan.mean] = {0, 0, unit_row(num_denoised++)};
  }
  for (const auto& instruction : plan.instructions) {
    if (const auto* combine = std::get_if<Combine<double>>(&instruction)) {
      states[combine->target] = sum_of(combine->sum, states);
      continue;
    }
    if (const auto* noise = std::get_if<Draw>(&instruction)) {
      states[noise->target] = {0, 0, {}, unit_row(num_noise++)};
      continue;
    }
    const auto& evaluate = std::get<Evaluate<double>>(instruction);
    auto& stage = result.stages.emplace_back();
    for (std::size_t k = 0; k < evaluate.states.size(); ++k) {
      stage.push_back(point_of(states.at(evaluate.states[k]), evaluate.sigmas[k], num_denoised));
    }
    for (const Register denoised : evaluate.denoised) states[denoised] = {0, 0, unit_row(num_denoised++)};
  }
  result.end = point_of(states.at(plan.grid.back()), t_end, num_denoised);
  return result;
}

NsPlan<double> with_extra_points(const NsPlan<double>& plan, int num_points, double shift) {
  NsPlan<double> result = plan;
  const NsPoint<double> x_0{plan.t_0, 1, {}};
  std::size_t num_denoised = plan.mean ? 1 : 0;
  std::vector<std::size_t> columns(num_denoised, 0);
  for (std::size_t s = 0; s < plan.stages.size(); ++s) {
    auto& stage = result.stages[s];
    for (auto& point : stage) {
      point = widened(std::move(point), columns, num_denoised);
      columns.push_back(num_denoised + static_cast<std::size_t>(&point - stage.data()));
    }
    const auto& before = s > 0 ? result.stages[s - 1][0] : x_0;
    const bool is_start = stage[0].weights.empty();
    for (int k = 1; !is_start && stage.size() < static_cast<std::size_t>(num_points); ++k) {
      const double factor = std::min(shift, std::pow(before.sigma / stage[0].sigma, 1.0 / num_points));
      stage.push_back(between(stage[0], before, stage[0].sigma * std::pow(factor, k)));
    }
    num_denoised += stage.size();
  }
  result.end = widened(plan.end, columns, num_denoised);
  return result;
}

std::size_t num_parameters(const NsPlan<double>& plan) {
  std::size_t count = plan.end.weights.size();
  for (const auto& stage : plan.stages) {
    for (const auto& point : stage) count += point.weights.empty() ? 0 : 2 + point.weights.size();
  }
  return count;
}

template <class S>
NsPlan<S> with_parameters(const NsPlan<double>& start, const NsRates& rates, const std::vector<S>& raw) {
  using std::exp;
  EPD_REQUIRE(raw.size() == num_parameters(start), "plan: ", raw.size(), " parameters, expected ",
              num_parameters(start));
  auto next = raw.begin();
  const auto learned_weights = [&](const NsPoint<double>& point) {
    std::vector<S> weights;
    for (const double weight : point.weights) weights.push_back(weight + rates.weights * *next++);
    return weights;
  };
  const auto learned_point = [&](const NsPoint<double>& point) {
    NsPoint<S> result{point.sigma, point.start, {}, {point.noise.begin(), point.noise.end()}};
    if (point.weights.empty()) return result;
    const S time = exp(rates.times * *next++);
    result.sigma *= time * exp(rates.sigmas * *next++);
    result.start *= time;
    for (S& share : result.noise) share *= time;
    result.weights = learned_weights(point);
    return result;
  };
  NsPlan<S> result{start.t_0, start.mean, {}, {}};
  for (const auto& stage : start.stages) {
    auto& points = result.stages.emplace_back();
    for (const auto& point : stage) points.push_back(learned_point(point));
  }
  const auto& end = start.end;
  result.end = {end.sigma, end.start, learned_weights(end), {end.noise.begin(), end.noise.end()}};
  return result;
}

template struct NsPlan<double>;
template struct NsPlan<Dual>;
template Plan<double> write_plan(const NsPlan<double>&);
template Plan<Dual> write_plan(const NsPlan<Dual>&);
template NsPlan<double> with_parameters(const NsPlan<double>&, const NsRates&, const std::vector<double>&);
template NsPlan<Dual> with_parameters(const NsPlan<double>&, const NsRates&, const std::vector<Dual>&);

}  // namespace epd
