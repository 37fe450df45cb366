#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <vector>

namespace epd {

struct KidOptions {
  std::int64_t subsets = 100;
  std::int64_t subset_size = 1000;  // all images of the smaller set where it has fewer
  std::uint32_t seed = 2020;
};

/// Kernel Inception distance (Binkowski et al. 2018), lower is better: the unbiased estimate of the squared maximum
/// mean discrepancy under the kernel (x.y / F + 1)^3, over random subsets. It may be slightly negative.
struct Kid {
  double mean = 0, deviation = 0;  // over the subsets
  std::int64_t subsets = 0, subset_size = 0;
  std::uint32_t seed = 0;
};

/// generated [N, F], real [M, F]; float64 inside. The subsets are those of torch-fidelity: NumPy's RandomState(seed),
/// each time first of the generated, then of the real features. Throws Error for fewer than 2 rows.
Kid kernel_distance(const at::Tensor& generated, const at::Tensor& real, const KidOptions& options = {});

struct PrdcOptions {
  std::int64_t manifold_k = 3;        // neighbours of precision and recall
  std::int64_t density_k = 5;         // neighbours of density and coverage
  std::int64_t max_pictures = 10000;  // of each set; a random subset of larger ones (time grows with the square)
  std::uint32_t seed = 0;             // of that subset
};

/// How two sets of features overlap, by balls around each image that reach to its k-th neighbour of the same set;
/// higher is better for all four.
///   precision  share of generated images inside a ball of a real one (Kynkaanniemi et al. 2019): fidelity
///   recall     share of real images inside a ball of a generated one: diversity
///   density    how many balls of real images a generated one lies in, over k (Naeem et al. 2020); may exceed 1
///   coverage   share of real images whose ball holds a generated one
struct Prdc {
  double precision = 0, recall = 0, density = 0, coverage = 0;
  std::int64_t manifold_k = 0, density_k = 0;
  std::int64_t num_generated = 0, num_real = 0;  // really compared
};

/// generated [N, F], real [M, F]; float64 inside, in blocks. As the prdc package computes them: a point on a ball's
/// surface is outside. Throws Error for fewer images than neighbours.
Prdc prdc(const at::Tensor& generated, const at::Tensor& real, const PrdcOptions& options = {});

/// For each row of `queries` [N, F] the distance to the nearest of `points` [M, F] and its row, in blocks.
struct Nearest {
  at::Tensor distance;  // [N] float64
  at::Tensor index;     // [N] int64
};
Nearest nearest_neighbours(const at::Tensor& queries, const at::Tensor& points);

/// For each of these rows of `points` the distance to the nearest other row: [queries] float64.
at::Tensor nearest_others(const at::Tensor& points, const std::vector<std::size_t>& queries);

}  // namespace epd
