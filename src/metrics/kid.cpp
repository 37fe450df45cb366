#include "epd/metrics/kid.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <vector>

#include "epd/core/error.h"
#include "epd/core/interrupt.h"
#include "epd/metrics/random_state.h"

namespace epd {
namespace {

/// Rows of the features, drawn without replacement.
at::Tensor draw_rows(const at::Tensor& features, std::int64_t size, RandomState& random) {
  const auto chosen = random.choice(static_cast<std::size_t>(features.size(0)), static_cast<std::size_t>(size));
  std::vector<std::int64_t> rows(chosen.begin(), chosen.end());
  return features.index_select(0, at::tensor(rows, at::kLong).to(features.device())).to(at::kDouble);
}

at::Tensor kernel(const at::Tensor& x, const at::Tensor& y) {
  return (x.mm(y.t()) / static_cast<double>(x.size(1)) + 1).pow(3);
}

/// Equation (4) of the paper for m rows each: pairs of a row with itself are left out within a set.
double squared_discrepancy(const at::Tensor& x, const at::Tensor& y) {
  const auto m = static_cast<double>(x.size(0));
  const auto within = [](const at::Tensor& k) { return (k.sum() - k.trace()).item<double>(); };
  return (within(kernel(x, x)) + within(kernel(y, y))) / (m * (m - 1)) - 2 * kernel(x, y).mean().item<double>();
}

}  // namespace

Kid kernel_distance(const at::Tensor& generated, const at::Tensor& real, const KidOptions& options) {
  EPD_REQUIRE(generated.dim() == 2 && real.dim() == 2 && generated.size(1) == real.size(1),
              "KID needs two sets of equal features, got ", generated.sizes(), " and ", real.sizes());
  const auto size = std::min({options.subset_size, generated.size(0), real.size(0)});
  EPD_REQUIRE(size >= 2, "KID needs at least 2 images in each set");
  RandomState random(options.seed);
  std::vector<double> values;
  for (std::int64_t i = 0; i < options.subsets; ++i) {
    check_interrupt();
    const auto x = draw_rows(generated, size, random);
    const auto y = draw_rows(real, size, random);
    values.push_back(squared_discrepancy(x, y));
  }
  const auto all = at::tensor(values, at::kDouble);
  return {.mean = all.mean().item<double>(),
          .deviation = all.std(/*unbiased=*/false).item<double>(),
          .subsets = options.subsets,
          .subset_size = size,
          .seed = options.seed};
}

}  // namespace epd
