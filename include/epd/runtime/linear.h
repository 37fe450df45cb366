#pragma once

#include <ATen/ATen.h>

#include <vector>

/// The arithmetic of plans: weighted sums of states and inner products, float64 inside whatever the states' dtype.
namespace epd {

struct WeightedTensor {
  double weight;
  at::Tensor tensor;
};

/// sum_i w_i x_i, of the inputs' dtype and shape: one pass over the inputs, summed in float64 on the CPU.
at::Tensor weighted_sum(const std::vector<WeightedTensor>& terms);

/// <a_b, b_b> for every image b of two batches [B, ...]: float64 [B] on their device, summed in float64 in a fixed
/// order.
at::Tensor inner_products(const at::Tensor& a, const at::Tensor& b);

}  // namespace epd
