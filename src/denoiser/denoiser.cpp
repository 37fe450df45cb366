#include "epd/denoiser/denoiser.h"

#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/grad_mode.h>
#include <torch/csrc/autograd/variable.h>

#include <vector>

#include "epd/core/error.h"
#include "epd/denoiser/device.h"

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

at::Tensor AutogradDenoiser::forward(const at::Tensor& x, const at::Tensor& sigma, std::int64_t num_points,
                                     const Condition& condition) const {
  at::NoGradGuard no_grad;
  return evaluate(x, sigma, num_points, condition);
}

Differentiated AutogradDenoiser::differentiate(const at::Tensor& x, const at::Tensor& sigma, std::int64_t num_points,
                                               const Condition& condition) const {
  at::AutoGradMode with_grad(true);
  const auto x_leaf = x.detach().requires_grad_(true);
  const auto sigma_leaf = sigma.detach().requires_grad_(true);
  const auto denoised = evaluate(x_leaf, sigma_leaf, num_points, condition);
  EPD_REQUIRE(denoised.requires_grad(), "the model's output does not depend on its input in a differentiable way");
  return {denoised.detach(),
          [x_leaf, sigma_leaf, denoised, tf32 = tf32_](const at::Tensor& gradient) -> InputGradients {
            const Tf32 scope(gradient.device(), tf32);
            const auto gradients = torch::autograd::grad({denoised}, {x_leaf, sigma_leaf}, {gradient},
                                                         /*retain_graph=*/true, /*create_graph=*/false,
                                                         /*allow_unused=*/true);
            const auto or_zero = [](const at::Tensor& g, const at::Tensor& like) {
              return g.defined() ? g : at::zeros_like(like);
            };
            return {or_zero(gradients[0], x_leaf.detach()), or_zero(gradients[1], sigma_leaf.detach())};
          }};
}

}  // namespace epd
