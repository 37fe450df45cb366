#pragma once

#include <array>
#include <cmath>
#include <cstddef>
#include <vector>

#include "epd/solver/dual.h"

/// Denoisers in closed form: E[y | y + sigma n = x] of data whose distribution is known. They act on each coordinate.
namespace epd::testing {

inline double tanh_of(double x) { return std::tanh(x); }
inline Dual tanh_of(const Dual& x) {
  const double t = std::tanh(x.value());
  return x.chain(t, 1 - t * t);
}

/// y ~ N(0, s^2). The probability-flow ODE then has x(t) = x(T) sqrt((s^2 + t^2) / (s^2 + T^2)).
struct GaussianDenoiser {
  double s = 1;

  std::vector<double> operator()(const std::vector<double>& x, double sigma) const {
    std::vector<double> result;
    for (const double v : x) result.push_back(v * s * s / (s * s + sigma * sigma));
    return result;
  }
  double exact(double x, double from, double to) const {
    return x * std::sqrt((s * s + to * to) / (s * s + from * from));
  }
};

/// One coordinate of y ~ 1/2 N(a + mu, s^2) + 1/2 N(a - mu, s^2).
struct Mixture {
  double a = 0.1, mu = 0.7, s = 0.25;

  template <class S>
  S operator()(const S& x, const S& sigma) const {
    const S v = S(s * s) + sigma * sigma;
    return S(a) + (S(s * s) * (x - S(a)) + sigma * sigma * S(mu) * tanh_of(S(mu) * (x - S(a)) / v)) / v;
  }

  /// E[y | x] of a flow, x = (1 - t) y + t e; at t = 1 the mean a.
  double flow(double x, double t) const {
    const double c = 1 - t, v = c * c * s * s + t * t;
    return a + (c * s * s * (x - c * a) + t * t * mu * std::tanh(c * mu * (x - c * a) / v)) / v;
  }

  /// The end of the probability-flow ODE, by the classical Runge-Kutta method in ln t.
  double exact(double x, double from, double to, int steps = 20000) const {
    const double h = std::log(to / from) / steps;
    const auto slope = [&](double log_t, double at) { return at - (*this)(at, std::exp(log_t)); };
    for (int i = 0; i < steps; ++i) {
      const double log_t = std::log(from) + i * h;
      const double k1 = slope(log_t, x), k2 = slope(log_t + h / 2, x + h / 2 * k1);
      const double k3 = slope(log_t + h / 2, x + h / 2 * k2), k4 = slope(log_t + h, x + h * k3);
      x += h / 6 * (k1 + 2 * k2 + 2 * k3 + k4);
    }
    return x;
  }
};

/// The mixtures by label that the goldens were made with (tests/golden/solvers/README.md).
inline constexpr std::array<Mixture, 3> kLabelMixtures{{{0.1, 0.7, 0.25}, {-0.2, 1.5, 0.5}, {0.3, 0.4, 0.1}}};

/// Coordinate i belongs to the mixture labels[i], or 0.
struct MixtureDenoiser {
  std::vector<std::size_t> labels;

  template <class S>
  std::vector<S> operator()(const std::vector<S>& x, const S& sigma) const {
    std::vector<S> result;
    for (std::size_t i = 0; i < x.size(); ++i) {
      result.push_back(kLabelMixtures[labels.empty() ? 0 : labels[i]](x[i], sigma));
    }
    return result;
  }
};

}  // namespace epd::testing
