#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <deque>
#include <functional>
#include <utility>
#include <vector>

#include "epd/schedule/sigma_map.h"
#include "epd/solver/solver.h"

namespace epd {
namespace deis {

/// Integral of f over [a, b] by Gauss-Legendre with 5 nodes on 64 panels: exact to rounding for these smooth
/// integrands.
inline double integrate(const std::function<double(double)>& f, double a, double b) {
  static constexpr std::array<double, 3> kNodes{0, 0.5384693101056831, 0.9061798459386640};
  static constexpr std::array<double, 3> kWeights{0.5688888888888889, 0.4786286704993665, 0.2369268850561891};
  constexpr int kPanels = 64;
  const double half = (b - a) / (2 * kPanels);
  double sum = 0;
  for (int panel = 0; panel < kPanels; ++panel) {
    const double centre = a + (2 * panel + 1) * half;
    sum += kWeights[0] * f(centre);
    for (std::size_t i = 1; i < kNodes.size(); ++i) {
      sum += kWeights[i] * (f(centre - kNodes[i] * half) + f(centre + kNodes[i] * half));
    }
  }
  return sum * half;
}

/// The Lagrange polynomial that is 1 at nodes[j] and 0 at the others.
inline double lagrange(const std::vector<double>& nodes, std::size_t j, double at) {
  double product = 1;
  for (std::size_t k = 0; k < nodes.size(); ++k) {
    if (k != j) product *= (at - nodes[k]) / (nodes[j] - nodes[k]);
  }
  return product;
}

}  // namespace deis

/// Weights w_j with integral of d over [t_cur, t_next] = sum_j w_j d(nodes[j]) for the interpolating polynomial of the
/// directions at the noise levels `nodes` (newest first, nodes[0] = t_cur).
inline std::vector<double> deis_weights(DeisMode mode, const std::vector<double>& nodes, double t_next,
                                        const VpSigmaMap& clock) {
  std::vector<double> weights;
  if (mode == DeisMode::kRhoAb) {
    for (std::size_t j = 0; j < nodes.size(); ++j) {
      weights.push_back(deis::integrate([&](double t) { return deis::lagrange(nodes, j, t); }, nodes[0], t_next));
    }
    return weights;
  }
  std::vector<double> u_nodes;
  for (const double t : nodes) u_nodes.push_back(clock.u(t));
  // In ln t the integrand is smooth; in u it is steep near the end of the noise range.
  const double from = std::log(nodes[0]), to = std::log(t_next);
  for (std::size_t j = 0; j < nodes.size(); ++j) {
    const auto share = [&](double log_t) {
      const double t = std::exp(log_t);
      return deis::lagrange(u_nodes, j, clock.u(t)) * t;
    };
    weights.push_back(deis::integrate(share, from, to));
  }
  return weights;
}

/// DEIS (Zhang and Chen 2023, eq. 15): variable-step Adams-Bashforth, 1 evaluation a step.
///   x_next = x + sum_j w_j d_{n-j}
class DeisSolver : public Solver {
 public:
  explicit DeisSolver(const SolverOptions& o) : max_order_(o.max_order.value()), mode_(o.deis_mode) {}

  Expression<double> step(PlanBuilder<double>& plan, const Expression<double>& x, const StepPosition& at) override {
    const auto [t_cur, t_next] = at.t;
    history_.push_front({t_cur, direction_at(plan, x, at)});
    if (history_.size() > static_cast<std::size_t>(max_order_)) history_.pop_back();
    std::vector<double> nodes;
    for (const auto& [t, d] : history_) nodes.push_back(t);
    const auto weights = deis_weights(mode_, nodes, t_next, clock_);
    auto x_next = x;
    for (std::size_t j = 0; j < nodes.size(); ++j) x_next += weights[j] * history_[j].second;
    return x_next;
  }

 private:
  int max_order_;
  DeisMode mode_;
  // As published, the clock of the range 0.002 to 80 for every model: it only shapes the interpolation.
  VpSigmaMap clock_ = VpSigmaMap::between(0.002, 80);
  std::deque<std::pair<double, Expression<double>>> history_;  // (t, direction), newest first
};

}  // namespace epd
