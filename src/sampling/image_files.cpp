#include "image_files.h"

#include <algorithm>
#include <utility>

#include "epd/core/error.h"
#include "epd/files/npy.h"
#include "epd/sampling/pixels.h"

namespace epd {
namespace {

/// A contiguous tensor on the CPU as the bytes of a .npy.
std::string npy_bytes(const at::Tensor& tensor) {
  const auto contiguous = tensor.contiguous();
  const auto sizes = contiguous.sizes();
  Array array{contiguous.scalar_type() == at::kByte ? "|u1" : "<f4", {sizes.begin(), sizes.end()}, {}};
  array.bytes.assign(static_cast<const char*>(contiguous.const_data_ptr()), contiguous.nbytes());
  return encode_npy(array);
}

/// The text of a PNG holds no zero byte.
std::string png_text(std::string text) {
  std::ranges::replace(text, '\0', '?');
  return text;
}

}  // namespace

ImageFiles::ImageFiles(const OutputLayout& layout, std::shared_ptr<const Conditions> conditions, at::Device device,
                       Options options)
    : layout_(layout),
      conditions_(std::move(conditions)),
      text_(std::move(options.text)),
      transfer_(device),
      writer_(folder_sink(layout.folder), {options.writer_threads, /*capacity=*/256}) {}

void ImageFiles::add(const std::vector<std::uint64_t>& seeds, const Drawn& drawn) {
  const bool raw = layout_.format == SampleFormat::kRaw;
  const auto finite = drawn.images.isfinite().flatten(1).all(1);
  const auto content = raw ? drawn.images.to(at::kFloat) : to_pixels(drawn.images);
  at::Tensor states;  // [B, N, C, H, W]
  if (!drawn.states.empty()) states = at::stack(drawn.states, 1);
  write_arrived();
  seeds_ = seeds;
  transfer_.begin({content, finite, drawn.labels, states});
}

void ImageFiles::finish() {
  write_arrived();
  writer_.finish();
}

void ImageFiles::write_arrived() {
  const auto arrived = transfer_.wait();
  if (arrived.empty()) return;
  const auto &content = arrived[0], &finite = arrived[1], &labels = arrived[2], &states = arrived[3];
  for (std::size_t i = 0; i < seeds_.size(); ++i) {
    const auto row = static_cast<std::int64_t>(i);
    EPD_REQUIRE(finite[row].item<bool>(), "the image of seed ", seeds_[i],
                " is not finite: the network overflowed; try --precision fp32, or another schedule");
    if (states.defined()) writer_.push_bytes(layout_.states_file(seeds_[i]), npy_bytes(states[row]));
    write_image(i, content, labels);
  }
}

void ImageFiles::write_image(std::size_t index, const at::Tensor& content, const at::Tensor& labels) {
  const auto row = static_cast<std::int64_t>(index);
  const auto name = layout_.image_file(seeds_[index]);
  if (name.ends_with(".png")) {
    writer_.push(name, picture(content, row), text_of(seeds_[index], labels, index));
  } else {
    writer_.push_bytes(name, npy_bytes(content[row]));
  }
}

PngText ImageFiles::text_of(std::uint64_t seed, const at::Tensor& labels, std::size_t index) const {
  PngText text{{"seed", std::to_string(seed)}};
  if (labels.defined()) {
    text.emplace_back("label", std::to_string(labels[static_cast<std::int64_t>(index)].item<std::int64_t>()));
  }
  if (const auto prompt = conditions_->prompt(seed); !prompt.empty()) text.emplace_back("prompt", png_text(prompt));
  text.insert(text.end(), text_.begin(), text_.end());
  return text;
}

}  // namespace epd
