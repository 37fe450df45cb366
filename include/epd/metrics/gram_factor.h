#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace epd {

/// R [r, F] with R^T R = sigma up to rounding, where r is sigma's numerical rank, at most `max_rank`: the covariance of
/// n pictures has rank n - 1 at most, whatever rounding makes of it. sigma [F, F] float64 on the CPU, symmetric and
/// positive semidefinite up to rounding.
///
/// A positive definite sigma takes LAPACK's Cholesky factor; a singular one a Cholesky factorisation with pivots
/// (Higham, Accuracy and Stability of Numerical Algorithms, section 10.3), which is as accurate and reveals the rank.
/// Both work on the matrix of correlations, so the scales of the features do not matter.
at::Tensor gram_factor(const at::Tensor& sigma, std::int64_t max_rank);

}  // namespace epd
