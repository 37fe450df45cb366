#include "epd/metrics/tensor_arrays.h"

#include <ATen/ATen.h>

#include <cstring>
#include <vector>

#include "epd/core/error.h"

namespace epd {
namespace {

std::vector<std::int64_t> sizes_of(const Array& array) { return {array.shape.begin(), array.shape.end()}; }

}  // namespace

at::Tensor to_double_tensor(const Array& array) {
  auto tensor = at::empty(sizes_of(array), at::kDouble);
  const auto values = array.as_doubles();
  std::copy(values.begin(), values.end(), tensor.data_ptr<double>());
  return tensor;
}

at::Tensor to_float_tensor(const Array& array) {
  EPD_REQUIRE(array.dtype == "<f4", "expected an array of float32, got ", array.dtype);
  auto tensor = at::empty(sizes_of(array), at::kFloat);
  std::memcpy(tensor.data_ptr(), array.bytes.data(), array.bytes.size());
  return tensor;
}

Array to_array(const at::Tensor& tensor) {
  EPD_REQUIRE(tensor.scalar_type() == at::kDouble || tensor.scalar_type() == at::kFloat,
              "only float64 and float32 tensors are stored, not ", c10::toString(tensor.scalar_type()));
  const auto values = tensor.cpu().contiguous();
  Array array;
  array.dtype = values.scalar_type() == at::kDouble ? "<f8" : "<f4";
  for (const auto size : values.sizes()) array.shape.push_back(static_cast<std::size_t>(size));
  array.bytes.assign(static_cast<const char*>(values.data_ptr()), values.nbytes());
  return array;
}

}  // namespace epd
