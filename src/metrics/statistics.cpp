#include "epd/metrics/statistics.h"

#include <ATen/ATen.h>

#include "epd/core/error.h"

namespace epd {
namespace {

constexpr double kSymmetry = 1e-6;    // of the largest entry
constexpr double kNegativity = 1e-6;  // of the Frobenius norm

void require_finite(const at::Tensor& values, const std::string& where, const char* name) {
  EPD_REQUIRE(at::isfinite(values).all().item<bool>(), where, ": array '", name, "' holds NaN or infinite values");
}

/// One Cholesky factorisation tells whether an eigenvalue lies below -shift; eigenvalues are found for the text alone.
void require_not_negative(const at::Tensor& sigma, const std::string& where) {
  const double norm = sigma.norm().item<double>();
  if (norm == 0) return;
  const auto shifted = sigma + kNegativity * norm * at::eye(sigma.size(0), sigma.options());
  if (std::get<1>(at::linalg_cholesky_ex(shifted)).item<int>() == 0) return;
  const auto eigenvalues = at::linalg_eigvalsh(sigma);
  throw Error(text(where, ": array 'sigma' is no covariance: its eigenvalues reach from ",
                   eigenvalues[0].item<double>(), " to ", eigenvalues[-1].item<double>()));
}

std::string detector_text(const Statistics& statistics) {
  if (statistics.detector.empty()) return "unknown";
  return statistics.detector_sha256.empty()
             ? statistics.detector
             : text(statistics.detector, " (sha256 ", statistics.detector_sha256.substr(0, 12), ")");
}

/// Published networks are known by name: their files differ (NVIDIA's own, an export) and compute the same.
bool may_be_same_detector(const Statistics& a, const Statistics& b) {
  const bool same_name = a.detector == b.detector;
  const bool published = a.detector == "inception" || a.detector == "inception-pytorch";
  if (a.detector.empty() || b.detector.empty() || (same_name && published)) return true;
  const bool hashes_known = !a.detector_sha256.empty() && !b.detector_sha256.empty();
  return hashes_known ? a.detector_sha256 == b.detector_sha256 : same_name;
}

}  // namespace

void require_valid(const Statistics& statistics, const std::string& where) {
  const auto& mu = statistics.mu;
  const auto& sigma = statistics.sigma;
  EPD_REQUIRE(mu.dim() == 1 && mu.size(0) > 0, where, ": array 'mu' should be [features], it is ", mu.sizes());
  EPD_REQUIRE(sigma.dim() == 2 && sigma.size(0) == sigma.size(1), where,
              ": array 'sigma' should be [features, features], it is ", sigma.sizes());
  EPD_REQUIRE(sigma.size(0) == mu.size(0), where, ": 'mu' has ", mu.size(0), " features, 'sigma' ", sigma.size(0));
  require_finite(mu, where, "mu");
  require_finite(sigma, where, "sigma");
  const double largest = sigma.abs().max().item<double>();
  const double asymmetry = (sigma - sigma.t()).abs().max().item<double>();
  EPD_REQUIRE(asymmetry <= kSymmetry * largest, where, ": array 'sigma' is not symmetric (off by ", asymmetry, ")");
  require_not_negative(sigma, where);
}

void require_same_detector(const Statistics& statistics, const Statistics& reference) {
  const std::string pair = text("the pictures have ", statistics.num_features(), " features of detector ",
                                detector_text(statistics), ", the reference ", reference.source, " has ",
                                reference.num_features(), " of detector ", detector_text(reference));
  EPD_REQUIRE(statistics.num_features() == reference.num_features(), pair,
              "; choose the reference's detector with --detector");
  EPD_REQUIRE(may_be_same_detector(statistics, reference), pair,
              "; distances between features of different networks mean nothing");
}

}  // namespace epd
