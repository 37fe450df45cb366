#include "epd/denoiser/denoiser.h"

#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/grad_mode.h>
#include <torch/csrc/autograd/variable.h>

#include <vector>

#include "epd/core/error.h"
#include "epd/core/out_of_memory.h"
#include "epd/denoiser/device.h"

namespace epd {
namespace {

template <class Change>
Condition changed(const Condition& c, Change change) {
  const auto apply = [&](const at::Tensor& x) { return x.defined() ? change(x) : x; };
  return {apply(c.value), apply(c.unconditional), apply(c.labels), {}};
}

/// An evaluation as autograd recorded it.
struct Tape {
  at::Tensor x, sigma, denoised;

  Tape(const AutogradDenoiser& denoiser, const at::Tensor& at_x, const at::Tensor& at_sigma, std::int64_t num_points,
       const Condition& condition)
      : x(at_x.detach().requires_grad_(true)), sigma(at_sigma.detach().requires_grad_(true)) {
    const at::AutoGradMode with_grad(true);
    denoised = denoiser.evaluate(x, sigma, num_points, condition);
    EPD_REQUIRE(denoised.requires_grad(), "the model's output does not depend on its input in a differentiable way");
  }

  /// `keep`: it can be asked again; else its activations are freed on the way.
  InputGradients pull_back(const at::Tensor& gradient, bool tf32, bool keep) const {
    const Tf32 scope(gradient.device(), tf32);
    try {
      const auto gradients = torch::autograd::grad({denoised}, {x, sigma}, {gradient}, /*retain_graph=*/keep,
                                                   /*create_graph=*/false, /*allow_unused=*/true);
      const auto or_zero = [](const at::Tensor& g, const at::Tensor& like) {
        return g.defined() ? g : at::zeros_like(like);
      };
      return {or_zero(gradients[0], x.detach()), or_zero(gradients[1], sigma.detach())};
    } catch (const std::exception& e) {
      if (const auto out = out_of_memory(e, kSmallerNetworkOptions)) throw *out;
      throw;
    }
  }
};

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
  const Tape tape(*this, x, sigma, num_points, condition);
  return {tape.denoised.detach(),
          [tape, tf32 = tf32_](const at::Tensor& gradient) { return tape.pull_back(gradient, tf32, /*keep=*/true); }};
}

InputGradients AutogradDenoiser::pull_back(const at::Tensor& x, const at::Tensor& sigma, std::int64_t num_points,
                                           const Condition& condition, const at::Tensor& gradient) const {
  return Tape(*this, x, sigma, num_points, condition).pull_back(gradient, tf32_, /*keep=*/false);
}

}  // namespace epd
