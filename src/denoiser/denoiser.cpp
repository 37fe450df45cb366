#include "epd/denoiser/denoiser.h"

#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/grad_mode.h>
#include <torch/csrc/autograd/variable.h>

#include "epd/core/error.h"

namespace epd {

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
  return {denoised.detach(), [x_leaf, sigma_leaf, denoised](const at::Tensor& gradient) -> InputGradients {
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
