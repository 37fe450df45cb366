#include "epd/metrics/frechet.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "epd/core/error.h"
#include "epd/metrics/gram_factor.h"

namespace epd {
namespace {

/// What rounding may have done to the sum of the roots of these eigenvalues, each of which is off by about
/// eps * largest: errors of roots above that level are random, roots of noise below it add up.
double error_of_roots(const at::Tensor& eigenvalues) {
  const double level = 4 * std::numeric_limits<double>::epsilon() * eigenvalues.max().item<double>();
  if (level <= 0) return 0;
  const auto above = eigenvalues.masked_select(eigenvalues > level);
  const auto num_below = static_cast<double>(eigenvalues.numel() - above.numel());
  const double random = (level / 2) * above.reciprocal().sum().sqrt().item<double>();
  return random + num_below * std::sqrt(level);
}

/// The sum of the singular values of the matrix. Eigenvalues of its Gram matrix are four times as fast as singular
/// values and nearly always as good; where they may be off by more than `tolerance`, singular values it is.
double sum_of_singular_values(at::Tensor matrix, double tolerance) {
  if (matrix.numel() == 0) return 0;
  if (matrix.size(0) > matrix.size(1)) matrix = matrix.t();
  const auto eigenvalues = at::linalg_eigvalsh(matrix.mm(matrix.t()));
  if (error_of_roots(eigenvalues) <= tolerance) return eigenvalues.clamp_min(0).sqrt().sum().item<double>();
  return at::linalg_svdvals(matrix).sum().item<double>();
}

/// The rank that the covariance of this many pictures can have.
std::int64_t max_rank(const Statistics& statistics) {
  const auto features = statistics.num_features();
  return statistics.count > 0 ? std::min(features, statistics.count - 1) : features;
}

}  // namespace

FrechetTerms frechet_terms(const Statistics& a, const Statistics& b, at::Device device) {
  EPD_REQUIRE(a.num_features() == b.num_features(), "statistics of ", a.num_features(),
              " features cannot be compared with statistics of ", b.num_features());
  FrechetTerms terms;
  terms.mean_gap = (a.mu - b.mu).square().sum().item<double>();
  terms.trace_a = a.sigma.trace().item<double>();
  terms.trace_b = b.sigma.trace().item<double>();
  const auto rows_a = gram_factor(a.sigma, max_rank(a));
  const auto rows_b = gram_factor(b.sigma, max_rank(b));
  terms.rank_a = rows_a.size(0);
  terms.rank_b = rows_b.size(0);
  const double tolerance = 1e-7 * (terms.mean_gap + 1e-3 * (terms.trace_a + terms.trace_b));
  terms.cross = sum_of_singular_values(rows_a.to(device).mm(rows_b.to(device).t()), tolerance);
  return terms;
}

double frechet_distance(const Statistics& a, const Statistics& b, at::Device device) {
  return frechet_terms(a, b, device).distance();
}

}  // namespace epd
