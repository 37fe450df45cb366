#include "epd/sampling/pixels.h"

#include <cstdint>

namespace epd {

at::Tensor to_pixels(const at::Tensor& images) {
  return (images * 127.5 + 128).clamp_(0, 255).to(at::kByte).permute({0, 2, 3, 1}).contiguous();
}

Image picture(const at::Tensor& pixels, std::int64_t index) {
  const auto one = pixels.select(0, index);
  const auto* begin = one.const_data_ptr<std::uint8_t>();
  return Image(static_cast<int>(one.size(0)), static_cast<int>(one.size(1)), static_cast<int>(one.size(2)),
               std::vector<std::uint8_t>(begin, begin + one.numel()));
}

at::Tensor pixels(const Image& image) {
  return at::tensor(image.pixels, at::kByte).view({image.height, image.width, image.channels});
}

}  // namespace epd
