#pragma once

#include <ATen/ATen.h>

#include <cstddef>
#include <functional>
#include <map>

#include "epd/runtime/execute.h"

namespace epd {

/// The gradient of a loss by registers of a run, for instance the states at grid points: register -> [B, C, H, W].
using RegisterGradients = std::map<Register, at::Tensor>;

/// Takes one number of the plan, a coefficient or a noise level, and the loss's gradient by it per image, float64 [B].
template <class S>
using GradientSink = std::function<void(const S& number, const at::Tensor& per_image)>;

/// Backwards through the plan's instructions, from the last: with lambda_r the gradient by register r,
///   combine   x = sum_i c_i r_i:  lambda_i += c_i lambda_x,  dc_i = <lambda_x, r_i>
///   evaluate  D(r; sigma):        lambda_r, dsigma by the denoiser's own vector-Jacobian product.
/// No tape spans two evaluations, so memory is one evaluation's activations beside the registers. Numbers without a
/// gradient of their own (constants of a learning plan) are passed over, with all that only leads to them.
template <class S>
void adjoint(const Plan<S>& plan, const Run<S>& run, RegisterGradients gradients, const GradientSink<S>& sink);

/// The loss's gradient by the learned parameters, per image: float64 [B, num_parameters].
at::Tensor parameter_gradients(const Plan<Dual>& plan, const Run<Dual>& run, RegisterGradients gradients,
                               std::size_t num_parameters);

}  // namespace epd
