#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <functional>

#include "epd/core/model_facts.h"

namespace epd {

/// What a batch of B images is conditioned on. Undefined tensors mean: nothing.
struct Condition {
  at::Tensor value;          // [B, ...]: one-hot or integer labels, or text states
  at::Tensor unconditional;  // [B, ...]: the same without a condition, for classifier-free guidance
  at::Tensor labels;         // [B] int64: for a classifier's guidance
  at::Tensor mean;           // [B, C, H, W]: of the data under it, for plans that begin with it; not for the network

  /// Images [begin, end), for the network.
  Condition slice(std::int64_t begin, std::int64_t end) const;
  /// Point-major for K parallel points: row k * B + b is image b's.
  Condition repeat(std::int64_t num_points) const;
  /// Padded to `rows` images with copies of the last one.
  Condition padded(std::int64_t rows) const;
};

/// The tensor padded along dimension 0 to `rows` with copies of its last row; unchanged when it has them.
at::Tensor padded_rows(const at::Tensor& x, std::int64_t rows);

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
///   x [K * B, C, H, W]: num_points = K parallel points of B images, point-major (row k * B + b); sigma [K * B] of x's
///   dtype; condition: of the B images.
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
  /// The vector-Jacobian product alone, of an evaluation made for it: activations are freed on the way back, and a
  /// denoiser that works in blocks holds those of one.
  virtual InputGradients pull_back(const at::Tensor& x, const at::Tensor& sigma, std::int64_t num_points,
                                   const Condition& condition, const at::Tensor& gradient) const {
    return differentiate(x, sigma, num_points, condition).pullback(gradient);
  }
};

/// A denoiser whose `evaluate` is made of differentiable tensor operations: all doors follow from it. The products of
/// its gradients are taken in TF32 where `tf32` allows it; evaluate sees to its own.
class AutogradDenoiser : public Denoiser {
 public:
  explicit AutogradDenoiser(bool tf32 = false) : tf32_(tf32) {}

  at::Tensor forward(const at::Tensor& x, const at::Tensor& sigma, std::int64_t num_points,
                     const Condition& condition) const final;
  Differentiated differentiate(const at::Tensor& x, const at::Tensor& sigma, std::int64_t num_points,
                               const Condition& condition) const final;
  InputGradients pull_back(const at::Tensor& x, const at::Tensor& sigma, std::int64_t num_points,
                           const Condition& condition, const at::Tensor& gradient) const final;

  /// D as a function that autograd can see through.
  virtual at::Tensor evaluate(const at::Tensor& x, const at::Tensor& sigma, std::int64_t num_points,
                              const Condition& condition) const = 0;

 private:
  bool tf32_;
};

}  // namespace epd
