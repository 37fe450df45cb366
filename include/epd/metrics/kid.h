#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

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

}  // namespace epd
