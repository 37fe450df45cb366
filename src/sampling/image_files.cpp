#include "image_files.h"

#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <cmath>
#include <deque>
#include <filesystem>
#include <future>
#include <system_error>
#include <type_traits>
#include <utility>

#include "epd/core/error.h"
#include "epd/core/interrupt.h"
#include "epd/core/thread_pool.h"
#include "epd/files/atomic_file.h"
#include "epd/files/json.h"
#include "epd/files/npy.h"
#include "epd/files/npz.h"
#include "epd/files/zip.h"
#include "epd/images/image.h"
#include "epd/images/png.h"
#include "epd/metrics/tensor_images.h"

namespace epd {
namespace {

namespace fs = std::filesystem;

/// The text of a PNG holds no zero byte.
std::string png_text(std::string text) {
  std::ranges::replace(text, '\0', '?');
  return text;
}

fs::path part(const OutputLayout& layout, std::uint64_t seed) { return layout.folder / layout.image_file(seed); }

/// take(make(seed)) for every seed, in their order; threads make them ahead.
template <class Make, class Take>
void for_each_in_order(const std::vector<std::uint64_t>& seeds, int num_threads, const Make& make, const Take& take) {
  constexpr std::size_t kAhead = 64;
  std::deque<std::future<std::invoke_result_t<Make, std::uint64_t>>> made;
  ThreadPool threads(static_cast<std::size_t>(num_threads));
  for (std::size_t begun = 0, i = 0; i < seeds.size(); ++i) {
    check_interrupt();
    for (; begun < std::min(seeds.size(), i + kAhead); ++begun) {
      made.push_back(threads.submit([&make, seed = seeds[begun]] { return make(seed); }));
    }
    take(seeds[i], made.front().get());
    made.pop_front();
  }
}

/// floor(sqrt(n)) images a row, no gaps, black where there are none.
void pack_grid(const OutputLayout& layout, const std::vector<std::uint64_t>& seeds, int num_threads) {
  std::vector<Image> images;
  for_each_in_order(
      seeds, num_threads, [&](std::uint64_t seed) { return to_rgb(read_image(layout, seed)); },
      [&](std::uint64_t, Image image) { images.push_back(std::move(image)); });
  const int columns = static_cast<int>(std::sqrt(static_cast<double>(images.size())));
  write_file(layout.folder / "grid.png", encode_png(image_grid(images, columns, /*gap=*/0, /*background=*/0)));
}

/// EDM's labels: {"labels": [["000000/000000.png", 3], ...]}.
std::string dataset_json(const OutputLayout& layout, const std::vector<std::uint64_t>& seeds,
                         const std::vector<std::int64_t>& labels) {
  auto rows = Json::array();
  for (std::size_t i = 0; i < seeds.size(); ++i) rows.push_back(Json::array({layout.image_name(seeds[i]), labels[i]}));
  return json_line({{"labels", rows}});
}

void pack_zip(const OutputLayout& layout, const std::vector<std::uint64_t>& seeds,
              const std::vector<std::int64_t>& labels, int num_threads) {
  ZipWriter zip(layout.folder / "images.zip");
  for_each_in_order(
      seeds, num_threads, [&](std::uint64_t seed) { return read_file(part(layout, seed)); },
      [&](std::uint64_t seed, const std::string& bytes) { zip.add(layout.image_name(seed), bytes); });
  if (!labels.empty()) zip.add("dataset.json", dataset_json(layout, seeds, labels));
  zip.finish();
}

void pack_npz(const OutputLayout& layout, const std::vector<std::uint64_t>& seeds,
              const std::vector<std::int64_t>& labels, int num_threads) {
  auto shape = read_npy(part(layout, seeds[0])).shape;
  shape.insert(shape.begin(), seeds.size());
  NpzRows npz(layout.folder / "images.npz", "arr_0", "|u1", shape);
  for_each_in_order(
      seeds, num_threads, [&](std::uint64_t seed) { return read_npy(part(layout, seed)).bytes; },
      [&](std::uint64_t, const std::string& bytes) { npz.append(bytes); });
  npz.add("seeds", Array::int64s({seeds.size()}, {seeds.begin(), seeds.end()}));
  if (!labels.empty()) npz.add("labels", Array::int64s({labels.size()}, labels));
  npz.finish();
}

void pack_raw(const OutputLayout& layout, const std::vector<std::uint64_t>& seeds, int num_threads) {
  NpyRows npy(layout.folder / "images.npy", "<f4", read_npy(part(layout, seeds[0])).shape);
  for_each_in_order(
      seeds, num_threads, [&](std::uint64_t seed) { return read_npy(part(layout, seed)).bytes; },
      [&](std::uint64_t, const std::string& bytes) { npy.append(bytes); });
  npy.finish();
}

}  // namespace

ImageFiles::ImageFiles(const OutputLayout& layout, std::shared_ptr<const Conditions> conditions, at::Device device,
                       Options options)
    : layout_(layout),
      conditions_(std::move(conditions)),
      text_(std::move(options.text)),
      writer_(folder_sink(layout.folder), {options.writer_threads, /*capacity=*/256}) {
  if (!device.is_cpu()) stream_ = c10::impl::VirtualGuardImpl(device.type()).getStreamFromGlobalPool(device);
}

void ImageFiles::add(const Samples& samples) {
  const bool raw = layout_.format == SampleFormat::kRaw;
  Batch batch{samples.seeds, raw ? samples.images.to(at::kFloat) : to_pixels(samples.images), samples.labels,
              at::Tensor()};
  if (!samples.states.empty()) batch.states = at::stack(samples.states, 1);
  write_copied();
  begin_copy(std::move(batch));
}

void ImageFiles::finish() {
  write_copied();
  writer_.finish();
}

void ImageFiles::begin_copy(Batch batch) {
  batch_ = std::move(batch);
  if (!stream_) return;
  const auto device = stream_->device();
  c10::Event computed(device.type());
  computed.record(c10::impl::VirtualGuardImpl(device.type()).getStream(device));
  computed.block(*stream_);
  const c10::StreamGuard on_stream(*stream_);
  for (at::Tensor* tensor : {&batch_->content, &batch_->labels, &batch_->states}) {
    if (!tensor->defined()) continue;
    auto host = at::empty(tensor->sizes(), tensor->options().device(at::kCPU).pinned_memory(true));
    host.copy_(*tensor, /*non_blocking=*/true);
    tensor->record_stream(*stream_);  // its memory is not given away before the copy is done
    *tensor = std::move(host);
  }
  copied_.emplace(device.type());
  copied_->record(*stream_);
}

void ImageFiles::write_copied() {
  if (!batch_) return;
  if (copied_) copied_->synchronize();
  const Batch batch = *std::exchange(batch_, std::nullopt);
  for (std::size_t i = 0; i < batch.seeds.size(); ++i) {
    const auto row = static_cast<std::int64_t>(i);
    const auto seed = batch.seeds[i];
    if (batch.states.defined()) writer_.push_bytes(layout_.states_file(seed), encode_npy(to_array(batch.states[row])));
    const auto name = layout_.image_file(seed);
    if (name.ends_with(".png")) {
      writer_.push(name, image_of(batch.content, row), text_of(batch, i));
    } else {
      writer_.push_bytes(name, encode_npy(to_array(batch.content[row])));
    }
  }
}

PngText ImageFiles::text_of(const Batch& batch, std::size_t index) const {
  const auto seed = batch.seeds[index];
  PngText text{{"seed", std::to_string(seed)}};
  if (batch.labels.defined()) {
    text.emplace_back("label", std::to_string(batch.labels[static_cast<std::int64_t>(index)].item<std::int64_t>()));
  }
  if (const auto prompt = conditions_->prompt(seed); !prompt.empty()) text.emplace_back("prompt", png_text(prompt));
  text.insert(text.end(), text_.begin(), text_.end());
  return text;
}

Image read_image(const OutputLayout& layout, std::uint64_t seed) {
  const auto path = part(layout, seed);
  if (path.extension() == ".png") return decode_png(read_file(path), path.string());
  const auto array = read_npy(path);
  EPD_REQUIRE(array.shape.size() == 3, path.string(), ": not the array of one image");
  if (!array.is_uint8()) return image_of(to_pixels(to_float_tensor(array).unsqueeze(0)), 0);
  const auto* pixels = array.as_uint8();
  return Image(static_cast<int>(array.shape[0]), static_cast<int>(array.shape[1]), static_cast<int>(array.shape[2]),
               std::vector<std::uint8_t>(pixels, pixels + array.size()));
}

void pack_images(const OutputLayout& layout, const std::vector<std::uint64_t>& seeds,
                 const std::vector<std::int64_t>& labels, int num_threads) {
  switch (layout.format) {
    case SampleFormat::kPng:
      break;
    case SampleFormat::kZip:
      pack_zip(layout, seeds, labels, num_threads);
      break;
    case SampleFormat::kNpz:
      pack_npz(layout, seeds, labels, num_threads);
      break;
    case SampleFormat::kRaw:
      pack_raw(layout, seeds, num_threads);
      break;
  }
  if (layout.grid) pack_grid(layout, seeds, num_threads);
  std::error_code error;
  fs::remove_all(layout.parts_folder(), error);
  EPD_REQUIRE(!error, "cannot remove ", layout.parts_folder().string(), ": ", error.message());
}

}  // namespace epd
