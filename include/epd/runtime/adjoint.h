#pragma once

#include <ATen/ATen.h>

#include <cstddef>
#include <map>

#include "epd/runtime/execute.h"

namespace epd {

/// The gradient of a loss by registers of a run, for instance the states at grid points: register -> [B, C, H, W].
using RegisterGradients = std::map<Register, at::Tensor>;

/// The loss's gradient by the learned parameters, per image: float64 [B, num_parameters]. Goes backwards through the
/// plan's instructions: with lambda_r the gradient by register r,
///   combine   x = sum_i c_i r_i:  lambda_i += c_i lambda_x,  dc_i = <lambda_x, r_i>
///   evaluate  D(r; sigma):        lambda_r, dsigma by the denoiser's own vector-Jacobian product,
///   noise                         a constant.
/// No tape spans two evaluations, so memory is one evaluation's activations beside the registers. Numbers without a
/// gradient of their own (constants of the plan) are passed over, with all that only leads to them.
at::Tensor parameter_gradients(const Plan<Dual>& plan, const Run<Dual>& run, RegisterGradients gradients,
                               std::size_t num_parameters);

}  // namespace epd
