#pragma once

#include <ATen/ATen.h>

#include <cstdint>

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

}  // namespace epd
