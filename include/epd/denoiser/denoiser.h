#pragma once

#include <ATen/ATen.h>

#include <functional>

#include "epd/core/model_facts.h"
#include "epd/denoiser/condition.h"

namespace epd {

/// The gradients of a loss by a denoiser's inputs.
struct InputGradients {
  at::Tensor x;      // like x
  at::Tensor sigma;  // [K * B]
};

/// A forward whose vector-Jacobian product can still be asked for. It holds the activations until then.
struct Differentiated {
  at::Tensor denoised;
  std::function<InputGradients(const at::Tensor& gradient)> pullback;
};

/// The network's one door: D(x; sigma) for a batch, conditioned. Guidance, clamp, precision and fixed chunks live
/// behind it; solvers and the runtime never know.
///   x [K * B, C, H, W]: K parallel points of B images, point-major (row k * B + b); sigma [K * B] of x's dtype;
///   condition: of the B images. K is x.size(0) / B where the condition names B, and the caller's business elsewhere.
class Denoiser {
 public:
  virtual ~Denoiser() = default;
  virtual const ModelFacts& facts() const = 0;
  /// What one evaluation counts as: 2 under classifier-free guidance.
  virtual int cost() const { return 1; }
  /// D, without a tape.
  virtual at::Tensor forward(const at::Tensor& x, const at::Tensor& sigma, std::int64_t num_points,
                             const Condition& condition) const = 0;
  /// D and its vector-Jacobian product by x and by sigma.
  virtual Differentiated differentiate(const at::Tensor& x, const at::Tensor& sigma, std::int64_t num_points,
                                       const Condition& condition) const = 0;
};

/// A denoiser whose `evaluate` is made of differentiable tensor operations: both doors follow from it.
class AutogradDenoiser : public Denoiser {
 public:
  at::Tensor forward(const at::Tensor& x, const at::Tensor& sigma, std::int64_t num_points,
                     const Condition& condition) const final;
  Differentiated differentiate(const at::Tensor& x, const at::Tensor& sigma, std::int64_t num_points,
                               const Condition& condition) const final;

  /// D as a function that autograd can see through.
  virtual at::Tensor evaluate(const at::Tensor& x, const at::Tensor& sigma, std::int64_t num_points,
                              const Condition& condition) const = 0;
};

}  // namespace epd
