#include "epd/denoiser/condition.h"

#include <vector>

namespace epd {
namespace {

template <class Change>
Condition changed(const Condition& c, Change change) {
  const auto apply = [&](const at::Tensor& x) { return x.defined() ? change(x) : x; };
  return {apply(c.value), apply(c.unconditional), apply(c.labels), {}};
}

}  // namespace

Condition Condition::slice(std::int64_t begin, std::int64_t end) const {
  return changed(*this, [&](const at::Tensor& x) { return x.slice(0, begin, end); });
}

Condition Condition::repeat(std::int64_t num_points) const {
  if (num_points == 1) return *this;
  return changed(*this, [&](const at::Tensor& x) {
    std::vector<std::int64_t> repeats(x.dim(), 1);
    repeats[0] = num_points;
    return x.repeat(repeats);
  });
}

Condition Condition::padded(std::int64_t rows) const {
  return changed(*this, [&](const at::Tensor& x) { return padded_rows(x, rows); });
}

at::Tensor padded_rows(const at::Tensor& x, std::int64_t rows) {
  const std::int64_t missing = rows - x.size(0);
  if (missing <= 0) return x;
  auto shape = x.sizes().vec();
  shape[0] = missing;
  return at::cat({x, x.slice(0, x.size(0) - 1).expand(shape)});
}

}  // namespace epd
