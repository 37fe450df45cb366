#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>

#include "epd/files/npy.h"
#include "epd/images/image.h"

/// Between tensors and what is known without Torch: NumPy's arrays, and images.
///   images   float [B, C, H, W], in about [-1, 1]
///   pixels   uint8 [B, H, W, C], as files hold them
namespace epd {

/// The numbers as float64, of the array's shape.
at::Tensor to_double_tensor(const Array& array);
/// float32 of a "<f4" array, of the array's shape. Throws Error for other types.
at::Tensor to_float_tensor(const Array& array);
/// A tensor of float64, float32 or uint8 as "<f8", "<f4" or "|u1"; from any device.
Array to_array(const at::Tensor& tensor);

/// clip(127.5 x + 128, 0, 255), truncated; on the same device.
at::Tensor to_pixels(const at::Tensor& images);
/// The pixels of images of one shape, on the CPU.
at::Tensor to_pixels(std::span<const Image> images);
/// One image of pixels on the CPU.
Image image_of(const at::Tensor& pixels, std::int64_t index);
/// Pixels as a detector takes them, [B, 3, H, W], grey repeated; a view. Throws Error unless C is 1 or 3.
at::Tensor for_detector(const at::Tensor& pixels);

}  // namespace epd
