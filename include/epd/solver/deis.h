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
  const auto u = [&](double log_t) { return mode == DeisMode::kLogRhoAb ? log_t : clock.u(std::exp(log_t)); };
  std::vector<double> u_nodes;
  for (const double t : nodes) u_nodes.push_back(mode == DeisMode::kLogRhoAb ? std::log(t) : clock.u(t));
  // In ln t the integrand is smooth; in u it is steep near the end of the noise range.
  const double from = std::log(nodes[0]), to = std::log(t_next);
  for (std::size_t j = 0; j < nodes.size(); ++j) {
    const auto share = [&](double log_t) { return deis::lagrange(u_nodes, j, u(log_t)) * std::exp(log_t); };
    weights.push_back(deis::integrate(share, from, to));
  }
  return weights;
}

/// DEIS (Zhang and Chen 2023, eq. 15): variable-step Adams-Bashforth, 1 evaluation a step. With rho = t / alpha and the
/// noise e of x = alpha x_0 + t e, which is d on EDM's clock:
///   x_next / alpha_next = x / alpha_cur + sum_j w_j e_{n-j}
class DeisSolver : public Solver {
 public:
  explicit DeisSolver(const SolverOptions& o) : max_order_(o.max_order.value()), mode_(o.deis_mode), clock_(o.clock) {}

  Expression<double> step(PlanBuilder<double>& plan, const Expression<double>& x, const StepPosition& at) override {
    const auto [t_cur, t_next] = at.t;
    const auto d_cur = direction_at(plan, x, at);
    if (clock_ == Clock::kFlow) return flow_step(x, d_cur, at.t);
    const auto weights = push(t_cur, d_cur, t_next);
    auto x_next = x;
    for (std::size_t j = 0; j < weights.size(); ++j) x_next += weights[j] * history_[j].second;
    return x_next;
  }

 private:
  /// Euler's step and what the differences e_{n-j} - e_n add to it: near pure noise x / alpha would lose its digits.
  Expression<double> flow_step(const Expression<double>& x, const Expression<double>& d_cur, Interval t) {
    const double alpha_cur = alpha_at(clock_, t.cur), alpha_next = alpha_at(clock_, t.next);
    auto x_next = x + t.dt() * d_cur;
    if (alpha_cur == 0) return x_next;  // rho is infinite, and no polynomial reaches back there
    const auto weights = push(t.cur / alpha_cur, x + alpha_cur * d_cur, t.next / alpha_next);
    for (std::size_t j = 1; j < weights.size(); ++j) {
      x_next += alpha_next * weights[j] * (history_[j].second - history_[0].second);
    }
    return x_next;
  }

  /// Remembers the newest noise, and returns the weights of all.
  std::vector<double> push(double rho, const Expression<double>& noise, double rho_next) {
    history_.push_front({rho, noise});
    if (history_.size() > static_cast<std::size_t>(max_order_)) history_.pop_back();
    std::vector<double> nodes;
    for (const auto& [node, e] : history_) nodes.push_back(node);
    return deis_weights(mode_, nodes, rho_next, vp_);
  }

  int max_order_;
  DeisMode mode_;
  // As published, the clock of the range 0.002 to 80 for every model: it only shapes the interpolation.
  VpSigmaMap vp_ = VpSigmaMap::between(0.002, 80);
  Clock clock_;
  std::deque<std::pair<double, Expression<double>>> history_;  // (rho, noise), newest first
};

}  // namespace epd
