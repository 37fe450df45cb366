#include "epd/metrics/frechet.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <vector>

#include "epd/core/error.h"

namespace epd {
namespace {

/// What is left of a correlation of 1 when it counts as zero. Sums over many images leave more than one rounding.
double zero_level(std::int64_t num_features) {
  return 4 * static_cast<double>(std::max<std::int64_t>(num_features, 64)) * std::numeric_limits<double>::epsilon();
}

/// LAPACK's factor where every pivot is clearly positive.
std::optional<at::Tensor> definite_factor(const at::Tensor& correlation, double zero) {
  const auto [upper, info] = at::linalg_cholesky_ex(correlation, /*upper=*/true);
  if (info.item<int>() != 0 || upper.diagonal().square().min().item<double>() <= zero) return std::nullopt;
  return upper;
}

/// Cholesky with complete pivoting, right-looking in panels: rows of R are found one by one from what is left of the
/// matrix, and a whole panel is taken off it at once. Rows stay in the matrix's own order of columns, so nothing is
/// ever swapped; an eliminated column is a zero in the rows that follow.
class PivotedCholesky {
 public:
  PivotedCholesky(const at::Tensor& matrix, double zero, std::int64_t max_rank)
      : num_columns_(matrix.size(0)),
        max_rank_(std::min(max_rank, num_columns_)),
        zero_(zero),
        left_(matrix.clone(at::MemoryFormat::Contiguous)),
        rows_(at::zeros({max_rank_, num_columns_}, matrix.options())),
        diagonal_(static_cast<std::size_t>(num_columns_)) {}

  /// R, or nothing where the matrix turns out to be indefinite beyond the zero level.
  std::optional<at::Tensor> factor() {
    bool more = true;
    while (more && rank_ < max_rank_) {
      more = eliminate_panel();
      if (std::ranges::min(diagonal_) < -10 * zero_) return std::nullopt;
    }
    const bool exhausted = rank_ == max_rank_;
    if (!exhausted && largest_left() > 100 * zero_) return std::nullopt;
    return rows_.narrow(0, 0, rank_);
  }

 private:
  static constexpr std::int64_t kPanel = 96;

  double* row(std::int64_t r) { return rows_.data_ptr<double>() + r * num_columns_; }

  /// Up to kPanel more rows; false when nothing above the zero level is left.
  bool eliminate_panel() {
    const std::int64_t first = rank_, end = std::min(first + kPanel, max_rank_);
    read_diagonal();
    for (; rank_ < end; ++rank_) {
      const auto pivot = std::ranges::max_element(diagonal_) - diagonal_.begin();
      if (diagonal_[static_cast<std::size_t>(pivot)] <= zero_) break;
      eliminate(pivot, first);
    }
    const auto panel = rows_.narrow(0, first, rank_ - first);
    left_.addmm_(panel.t(), panel, 1, -1);
    return rank_ == end;
  }

  void read_diagonal() {
    const auto* const left = left_.data_ptr<double>();
    for (std::int64_t j = 0; j < num_columns_; ++j) {
      diagonal_[static_cast<std::size_t>(j)] = left[j * num_columns_ + j];
    }
    for (const auto p : pivots_) diagonal_[static_cast<std::size_t>(p)] = 0;
  }

  /// The row of this pivot: what is left of the matrix's row, less the rows of the panel before it, over the root.
  void eliminate(std::int64_t pivot, std::int64_t first) {
    double* const target = row(rank_);
    std::copy_n(left_.data_ptr<double>() + pivot * num_columns_, num_columns_, target);
    for (std::int64_t r = first; r < rank_; ++r) {
      const double* const before = row(r);
      const double factor = before[pivot];
      for (std::int64_t j = 0; j < num_columns_; ++j) target[j] -= factor * before[j];
    }
    const double root = std::sqrt(diagonal_[static_cast<std::size_t>(pivot)]);
    for (std::int64_t j = 0; j < num_columns_; ++j) target[j] /= root;
    for (const auto p : pivots_) target[p] = 0;
    target[pivot] = root;
    for (std::int64_t j = 0; j < num_columns_; ++j) diagonal_[static_cast<std::size_t>(j)] -= target[j] * target[j];
    pivots_.push_back(pivot);
    diagonal_[static_cast<std::size_t>(pivot)] = 0;
  }

  /// The largest entry left in the rows and columns that were not eliminated.
  double largest_left() {
    for (const auto p : pivots_) {
      left_.select(0, p).zero_();
      left_.select(1, p).zero_();
    }
    return left_.abs().max().item<double>();
  }

  const std::int64_t num_columns_, max_rank_;
  const double zero_;
  std::int64_t rank_ = 0;
  at::Tensor left_;  // the matrix less R^T R of the finished panels
  at::Tensor rows_;  // R
  std::vector<double> diagonal_;
  std::vector<std::int64_t> pivots_;
};

/// The nearest positive semidefinite matrix's factor, from eigenvectors: for covariances with negative eigenvalues
/// above rounding, such as those that were stored as float32.
at::Tensor spectral_factor(const at::Tensor& correlation, double zero, std::int64_t max_rank) {
  const auto [values, vectors] = at::linalg_eigh(correlation);  // rising
  const auto count = (values > zero * values[-1]).sum().item<std::int64_t>();
  const auto rank = std::min(count, max_rank);
  return values.narrow(0, values.size(0) - rank, rank).sqrt().unsqueeze(1) *
         vectors.narrow(1, values.size(0) - rank, rank).t();
}

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

/// The sum of the singular values of the matrix. Eigenvalues of its Gram matrix are seven times as fast as singular
/// values and nearly always as good. Where they may be off by more than `tolerance`, the large ones count, and what is
/// left of the matrix beside their eigenvectors is summed by itself: its roots are off by as little as its own largest
/// value allows. Where that does not help either, singular values it is.
double sum_of_singular_values(at::Tensor matrix, double tolerance) {
  if (matrix.numel() == 0) return 0;
  if (matrix.size(0) > matrix.size(1)) matrix = matrix.t();
  const auto gram = matrix.mm(matrix.t());
  const auto eigenvalues = at::linalg_eigvalsh(gram);
  if (error_of_roots(eigenvalues) <= tolerance) return eigenvalues.clamp_min(0).sqrt().sum().item<double>();
  constexpr double kSmall = 1e-8;  // of the largest: such vectors are free of the large ones' to a rounding
  const auto [values, vectors] = at::linalg_eigh(gram);  // rising
  const auto num_small = (values < kSmall * values[-1]).sum().item<std::int64_t>();
  const auto large = values.narrow(0, num_small, values.size(0) - num_small);
  if (num_small == 0 || error_of_roots(large) > tolerance / 2) return at::linalg_svdvals(matrix).sum().item<double>();
  const auto left = vectors.narrow(1, 0, num_small).t().mm(matrix);
  return large.sqrt().sum().item<double>() + sum_of_singular_values(left, tolerance / 2);
}

/// The rank that the covariance of this many images can have.
std::int64_t max_rank(const Statistics& statistics) {
  const auto features = statistics.num_features();
  return statistics.count > 0 ? std::min(features, statistics.count - 1) : features;
}

}  // namespace

at::Tensor gram_factor(const at::Tensor& sigma, std::int64_t max_rank) {
  const auto deviation = sigma.diagonal().clamp_min(0).sqrt();
  const auto scale = at::where(deviation > 0, deviation, 1.0);
  const auto correlation = sigma / (scale.unsqueeze(0) * scale.unsqueeze(1));
  const double zero = zero_level(sigma.size(0));
  std::optional<at::Tensor> factor;
  if (max_rank >= sigma.size(0)) factor = definite_factor(correlation, zero);
  if (!factor) factor = PivotedCholesky(correlation, zero, max_rank).factor();
  if (!factor) factor = spectral_factor(correlation, zero, max_rank);
  return *factor * scale;
}

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
