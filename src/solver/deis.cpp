#include "epd/solver/deis.h"

#include <array>
#include <cmath>
#include <functional>

namespace epd {
namespace {

/// Integral of f over [a, b] by Gauss-Legendre with 5 nodes on 64 panels: exact to rounding for these smooth
/// integrands.
double integrate(const std::function<double(double)>& f, double a, double b) {
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
double lagrange(const std::vector<double>& nodes, std::size_t j, double at) {
  double product = 1;
  for (std::size_t k = 0; k < nodes.size(); ++k) {
    if (k != j) product *= (at - nodes[k]) / (nodes[j] - nodes[k]);
  }
  return product;
}

}  // namespace

std::vector<double> deis_weights(DeisMode mode, const std::vector<double>& nodes, double t_next,
                                 const VpSigmaMap& clock) {
  std::vector<double> weights;
  if (mode == DeisMode::kRhoAb) {
    for (std::size_t j = 0; j < nodes.size(); ++j) {
      weights.push_back(integrate([&](double t) { return lagrange(nodes, j, t); }, nodes[0], t_next));
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
      return lagrange(u_nodes, j, clock.u(t)) * t;
    };
    weights.push_back(integrate(share, from, to));
  }
  return weights;
}

}  // namespace epd
