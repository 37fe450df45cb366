#include "epd/schedule/sigma_map.h"

#include <algorithm>
#include <cmath>

#include "epd/core/error.h"

namespace epd {

VpSigmaMap::VpSigmaMap(double beta_d, double beta_min) : beta_d_(beta_d), beta_min_(beta_min) {
  // beta_min may be a little below 0: `between` makes it so for the widest ranges.
  EPD_REQUIRE(std::isfinite(beta_d) && std::isfinite(beta_min) && beta_d / 2 + beta_min > 0 && beta_d + beta_min > 0,
              "noise schedule: sigma(u) does not grow for beta_d ", beta_d, " and beta_min ", beta_min);
}

VpSigmaMap VpSigmaMap::between(double sigma_min, double sigma_max, double eps_s) {
  const double low = std::log1p(sigma_min * sigma_min), high = std::log1p(sigma_max * sigma_max);
  const double beta_d = 2 * (low / eps_s - high) / (eps_s - 1), beta_min = high - beta_d / 2;
  // The exponent's slope beta_d u + beta_min is linear in u, so both ends decide.
  EPD_REQUIRE_USAGE(beta_d * eps_s + beta_min > 0 && beta_d + beta_min > 0,
                    "no variance-preserving schedule runs from ", sigma_min, " at u = ", eps_s, " to ", sigma_max,
                    " at u = 1; lower sigma_min or use another schedule");
  return VpSigmaMap(beta_d, beta_min);
}

double VpSigmaMap::sigma(double u) const { return std::sqrt(std::expm1((beta_d_ / 2 * u + beta_min_) * u)); }

double VpSigmaMap::u(double sigma) const {
  const double exponent = std::log1p(sigma * sigma);
  const double root = std::sqrt(beta_min_ * beta_min_ + 2 * beta_d_ * exponent);
  // The quadratic's root in whichever form does not cancel.
  return beta_min_ > 0 ? 2 * exponent / (root + beta_min_) : (root - beta_min_) / beta_d_;
}

TableSigmaMap::TableSigmaMap(const std::vector<double>& alphas_cumprod) {
  EPD_REQUIRE(alphas_cumprod.size() >= 2, "noise table: ", alphas_cumprod.size(), " entries, at least 2 needed");
  for (std::size_t m = 0; m < alphas_cumprod.size(); ++m) {
    const double a = alphas_cumprod[m];
    EPD_REQUIRE(a > 0 && a < 1 && (m == 0 || a < alphas_cumprod[m - 1]), "noise table: entry ", m, " is ", a,
                "; entries must decrease strictly within (0, 1)");
    log_alpha_.push_back(0.5 * std::log(a));
  }
}

double TableSigmaMap::sigma(double u) const {
  const double m = static_cast<double>(log_alpha_.size());
  const auto i = static_cast<std::size_t>(std::clamp(std::floor(u * m - 1), 0.0, m - 2));
  const double log_alpha = log_alpha_[i] + (u * m - 1 - static_cast<double>(i)) * (log_alpha_[i + 1] - log_alpha_[i]);
  return std::sqrt(std::expm1(-2 * log_alpha));
}

double TableSigmaMap::u(double sigma) const {
  const double log_alpha = -0.5 * std::log1p(sigma * sigma);
  // The last entry that is not below log_alpha starts the segment; the end segments reach past the table.
  const auto below = std::lower_bound(log_alpha_.begin(), log_alpha_.end(), log_alpha, std::greater<>());
  const auto last = static_cast<std::ptrdiff_t>(log_alpha_.size()) - 2;
  const auto i = std::clamp<std::ptrdiff_t>(below - log_alpha_.begin() - 1, 0, last);
  const double fraction = (log_alpha - log_alpha_[i]) / (log_alpha_[i + 1] - log_alpha_[i]);
  return (static_cast<double>(i) + 1 + fraction) / static_cast<double>(log_alpha_.size());
}

std::unique_ptr<SigmaMap> make_sigma_map(const Noise& noise) {
  if (const auto* vp = std::get_if<VpNoise>(&noise)) return std::make_unique<VpSigmaMap>(vp->beta_d, vp->beta_min);
  if (const auto* table = std::get_if<TableNoise>(&noise)) {
    return std::make_unique<TableSigmaMap>(table->alphas_cumprod);
  }
  return nullptr;
}

}  // namespace epd
