#pragma once

#include <memory>
#include <vector>

#include "epd/core/model_facts.h"

namespace epd {

/// A model's own clock: sigma(u) grows with the training time u in (0, 1], and u(sigma) is its inverse.
class SigmaMap {
 public:
  virtual ~SigmaMap() = default;
  virtual double sigma(double u) const = 0;
  virtual double u(double sigma) const = 0;
};

/// sigma(u) = sqrt(exp(beta_d u^2 / 2 + beta_min u) - 1) (Song et al. 2021; EDM, Table 1, column VP).
class VpSigmaMap : public SigmaMap {
 public:
  VpSigmaMap(double beta_d, double beta_min);
  /// The map with sigma(eps_s) = sigma_min and sigma(1) = sigma_max.
  static VpSigmaMap between(double sigma_min, double sigma_max, double eps_s = 1e-3);
  double sigma(double u) const override;
  double u(double sigma) const override;

 private:
  double beta_d_, beta_min_;
};

/// sigma = sqrt(1 - a^2) / a with ln a(u) piecewise linear through 0.5 ln alphas_cumprod[m] at u = (m + 1) / M,
/// extended linearly past both ends (DPM-Solver's discrete noise schedule).
class TableSigmaMap : public SigmaMap {
 public:
  /// Throws Error unless alphas_cumprod falls, within (0, 1), and has at least two entries.
  explicit TableSigmaMap(const std::vector<double>& alphas_cumprod);
  double sigma(double u) const override;
  double u(double sigma) const override;

 private:
  std::vector<double> log_alpha_;  // at u = (m + 1) / M
};

/// The map that the model's facts name, or null.
std::unique_ptr<SigmaMap> make_sigma_map(const Noise& noise);

}  // namespace epd
