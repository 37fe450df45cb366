#pragma once

#include <ATen/core/Tensor.h>

#include "epd/files/npy.h"

/// Between NumPy's arrays (room io, without Torch) and tensors on the CPU.
namespace epd {

/// The numbers as float64, of the array's shape.
at::Tensor to_double_tensor(const Array& array);
/// float32 of a "<f4" array, of the array's shape. Throws Error for other types.
at::Tensor to_float_tensor(const Array& array);
/// A float64 or float32 tensor as "<f8" or "<f4"; from any device.
Array to_array(const at::Tensor& tensor);

}  // namespace epd
