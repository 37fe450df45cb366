#pragma once

#include <c10/core/Device.h>

#include <cstdint>

#include "epd/metrics/statistics.h"

namespace epd {

/// The parts of the Frechet distance between two normal distributions (Dowson and Landau 1982; Heusel et al. 2017),
///     |mu_a - mu_b|^2 + tr(S_a) + tr(S_b) - 2 tr((S_a S_b)^{1/2}).
struct FrechetTerms {
  double mean_gap = 0;  // |mu_a - mu_b|^2
  double trace_a = 0, trace_b = 0;
  double cross = 0;  // tr((S_a S_b)^{1/2}), the sum of the singular values of A B^T where S_a = A^T A, S_b = B^T B
  std::int64_t rank_a = 0, rank_b = 0;  // numerical ranks of the covariances

  /// Zero for equal statistics, up to rounding (of the traces' size), which may be of either sign.
  double distance() const { return mean_gap + (trace_a + trace_b - 2 * cross); }
};

/// Exact also for singular covariances (fewer images than features): no square root of a matrix is formed, so there
/// is no imaginary part to drop. The spectral part runs on `device`. Throws Error unless the numbers of features agree.
FrechetTerms frechet_terms(const Statistics& a, const Statistics& b, at::Device device = at::kCPU);

double frechet_distance(const Statistics& a, const Statistics& b, at::Device device = at::kCPU);

/// R [r, F] with R^T R = sigma up to rounding, where r is sigma's numerical rank, at most `max_rank`: the covariance of
/// n images has rank n - 1 at most, whatever rounding makes of it. sigma [F, F] float64 on the CPU, symmetric and
/// positive semidefinite up to rounding.
///
/// A positive definite sigma takes LAPACK's Cholesky factor; a singular one a Cholesky factorisation with pivots
/// (Higham, Accuracy and Stability of Numerical Algorithms, section 10.3), which is as accurate and reveals the rank.
/// Both work on the matrix of correlations, so the scales of the features do not matter.
at::Tensor gram_factor(const at::Tensor& sigma, std::int64_t max_rank);

}  // namespace epd
