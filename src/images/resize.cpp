#include "epd/images/resize.h"

#include <zimg.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <memory>
#include <new>

#include "epd/core/error.h"

namespace epd {
namespace {

constexpr int kLobes = 3;
constexpr std::size_t kAlignment = 64;

/// Rows of floats, aligned as zimg wants them.
class Plane {
 public:
  Plane(int num_rows, int num_columns)
      : rows(num_rows),
        columns(num_columns),
        stride_((static_cast<std::size_t>(num_columns) * sizeof(float) + kAlignment - 1) / kAlignment * kAlignment),
        data_(static_cast<char*>(std::aligned_alloc(kAlignment, stride_ * static_cast<std::size_t>(num_rows))),
              std::free) {
    if (!data_) throw std::bad_alloc();
    std::fill_n(row(0), stride_ / sizeof(float) * static_cast<std::size_t>(num_rows), 0.0F);
  }
  float* row(int y) { return reinterpret_cast<float*>(data_.get() + static_cast<std::size_t>(y) * stride_); }

  zimg_image_format format() const {
    zimg_image_format format;
    zimg_image_format_default(&format, ZIMG_API_VERSION);
    format.width = static_cast<unsigned>(columns);
    format.height = static_cast<unsigned>(rows);
    format.pixel_type = ZIMG_PIXEL_FLOAT;
    format.color_family = ZIMG_COLOR_GREY;
    return format;
  }
  template <class Buffer>
  Buffer buffer() {
    Buffer buffer{};
    buffer.version = ZIMG_API_VERSION;
    buffer.plane[0].data = data_.get();
    buffer.plane[0].stride = static_cast<std::ptrdiff_t>(stride_);
    buffer.plane[0].mask = ZIMG_BUFFER_MAX;
    return buffer;
  }

  const int rows, columns;

 private:
  std::size_t stride_;
  std::unique_ptr<char, decltype(&std::free)> data_;
};

void require_zimg(bool done) {
  if (done) return;
  char reason[200] = "";
  zimg_get_last_error(reason, sizeof(reason));
  throw Error(text("a picture could not be resized: ", reason));
}

/// Runs zimg from `from`, of whose columns `margin` on either side are outside of the picture, to `to`.
void run_zimg(Plane& from, int margin, Plane& to) {
  auto format = from.format();
  format.active_region = {static_cast<double>(margin), 0, static_cast<double>(from.columns - 2 * margin),
                          static_cast<double>(from.rows)};
  const auto wanted = to.format();
  zimg_graph_builder_params parameters;
  zimg_graph_builder_params_default(&parameters, ZIMG_API_VERSION);
  parameters.resample_filter = ZIMG_RESIZE_LANCZOS;
  parameters.filter_param_a = kLobes;
  parameters.cpu_type = ZIMG_CPU_NONE;  // vector instructions of one processor or another would round differently
  const std::unique_ptr<zimg_filter_graph, decltype(&zimg_filter_graph_free)> graph(
      zimg_filter_graph_build(&format, &wanted, &parameters), zimg_filter_graph_free);
  require_zimg(graph != nullptr);
  std::size_t size = 0;
  require_zimg(zimg_filter_graph_get_tmp_size(graph.get(), &size) == ZIMG_ERROR_SUCCESS);
  const std::unique_ptr<void, decltype(&std::free)> workspace(
      std::aligned_alloc(kAlignment, (size + kAlignment) / kAlignment * kAlignment), std::free);
  const auto source = from.buffer<zimg_image_buffer_const>();
  const auto target = to.buffer<zimg_image_buffer>();
  require_zimg(zimg_filter_graph_process(graph.get(), &source, &target, workspace.get(), nullptr, nullptr, nullptr,
                                         nullptr) == ZIMG_ERROR_SUCCESS);
}

/// The picture with its rows resized to `width` and then mirrored at the diagonal, so that its columns come next.
/// zimg continues a picture by mirroring it at its edges. Zeros around the picture, and around a row of ones by whose
/// result the others are divided, leave what lies outside without weight instead.
Image resize_rows(const Image& image, int width) {
  const int channels = image.channels;
  const int margin = static_cast<int>(std::ceil(kLobes * std::max(1.0, static_cast<double>(image.width) / width))) + 1;
  Plane from(image.height * channels + 1, image.width + 2 * margin), to(image.height * channels + 1, width);
  for (int y = 0; y < image.height; ++y) {
    for (int c = 0; c < channels; ++c) {
      float* const row = from.row(y * channels + c) + margin;
      for (int x = 0; x < image.width; ++x) row[x] = image.row(y)[x * channels + c];
    }
  }
  std::fill_n(from.row(image.height * channels) + margin, image.width, 1.0F);
  run_zimg(from, margin, to);
  Image result(width, image.height, channels);
  const float* const weight = to.row(image.height * channels);
  for (int y = 0; y < image.height; ++y) {
    for (int c = 0; c < channels; ++c) {
      const float* const row = to.row(y * channels + c);
      for (int x = 0; x < width; ++x) {
        const float value = std::clamp(row[x] / weight[x], 0.0F, 255.0F);
        result.row(x)[y * channels + c] = static_cast<std::uint8_t>(value + 0.5F);
      }
    }
  }
  return result;
}

/// Rows and columns exchanged.
Image transposed(const Image& image) {
  Image result(image.width, image.height, image.channels);
  for (int y = 0; y < image.height; ++y) {
    for (int x = 0; x < image.width; ++x) {
      std::copy_n(image.row(y) + x * image.channels, image.channels, result.row(x) + y * image.channels);
    }
  }
  return result;
}

}  // namespace

Image resize(const Image& image, int height, int width) {
  EPD_REQUIRE(height > 0 && width > 0, "cannot resize a picture to ", width, "x", height);
  const Image mirrored = image.width == width ? transposed(image) : resize_rows(image, width);
  return image.height == height ? transposed(mirrored) : resize_rows(mirrored, height);
}

std::string resize_method() {
  unsigned major = 0, minor = 0, micro = 0;
  zimg_get_version_info(&major, &minor, &micro);
  return text("Lanczos, ", kLobes, " lobes, antialiased (zimg ", major, ".", minor, ".", micro, ")");
}

}  // namespace epd
