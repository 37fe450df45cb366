#pragma once

#include <ATen/ATen.h>

#include "epd/images/image.h"

namespace epd {

/// Images in about [-1, 1], float [B, C, H, W], as pixels, uint8 [B, H, W, C] on the same device:
/// clip(127.5 x + 128, 0, 255), truncated.
at::Tensor to_pixels(const at::Tensor& images);

/// One picture of a batch of pixels on the CPU, uint8 [B, H, W, C].
Image picture(const at::Tensor& pixels, std::int64_t index);

/// A picture as pixels, uint8 [H, W, C] on the CPU.
at::Tensor pixels(const Image& image);

}  // namespace epd
