#include "epd/metrics/tensor_images.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "epd/core/error.h"

namespace epd {
namespace {

std::vector<std::int64_t> sizes_of(const Array& array) { return {array.shape.begin(), array.shape.end()}; }

const char* dtype_of(at::ScalarType type) {
  if (type == at::kDouble) return "<f8";
  if (type == at::kFloat) return "<f4";
  EPD_REQUIRE(type == at::kByte, "only tensors of float64, float32 and uint8 are stored, not ", c10::toString(type));
  return "|u1";
}

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
  const auto values = tensor.cpu().contiguous();
  Array array;
  array.dtype = dtype_of(values.scalar_type());
  for (const auto size : values.sizes()) array.shape.push_back(static_cast<std::size_t>(size));
  array.bytes.assign(static_cast<const char*>(values.data_ptr()), values.nbytes());
  return array;
}

at::Tensor to_pixels(const at::Tensor& images) {
  return (images * 127.5 + 128).clamp_(0, 255).to(at::kByte).permute({0, 2, 3, 1}).contiguous();
}

at::Tensor to_pixels(std::span<const Image> images) {
  const auto& first = images.front();
  const auto count = static_cast<std::int64_t>(images.size());
  auto pixels = at::empty({count, first.height, first.width, first.channels}, at::kByte);
  auto* target = pixels.data_ptr<std::uint8_t>();
  for (const auto& image : images) target = std::ranges::copy(image.pixels, target).out;
  return pixels;
}

Image image_of(const at::Tensor& pixels, std::int64_t index) {
  const auto one = pixels.select(0, index);
  const auto* begin = one.const_data_ptr<std::uint8_t>();
  return Image(static_cast<int>(one.size(0)), static_cast<int>(one.size(1)), static_cast<int>(one.size(2)),
               std::vector<std::uint8_t>(begin, begin + one.numel()));
}

at::Tensor for_detector(const at::Tensor& pixels) {
  const auto images = pixels.permute({0, 3, 1, 2});
  EPD_REQUIRE(images.size(1) == 1 || images.size(1) == 3, "fid: images of ", images.size(1),
              " channels cannot be scored");
  return images.expand({-1, 3, -1, -1});
}

}  // namespace epd
