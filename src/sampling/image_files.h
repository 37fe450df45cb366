#pragma once

#include <ATen/ATen.h>
#include <c10/core/Event.h>
#include <c10/core/Stream.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "epd/images/image_writer.h"
#include "epd/sampling/conditions.h"
#include "epd/sampling/output_folder.h"
#include "epd/sampling/sampler.h"

namespace epd {

/// Writes samples, one file an image, in the background: while the device computes a batch, the one before is copied
/// from it (into pinned memory, on a stream of its own), and those before that are encoded and written by threads.
class ImageFiles {
 public:
  struct Options {
    int writer_threads = 2;
    PngText text;  // the same for every image; its seed, label and prompt are added
  };

  ImageFiles(const OutputLayout& layout, std::shared_ptr<const Conditions> conditions, at::Device device,
             Options options);

  /// Takes the next batch; waits while too many images are unwritten. Throws what writing an earlier one threw.
  void add(const Samples& samples);
  /// Returns once everything is written.
  void finish();

 private:
  /// What is written of a batch.
  struct Batch {
    std::vector<std::uint64_t> seeds;
    at::Tensor content;  // pixels, uint8 [B, H, W, C]; for raw files float32 [B, C, H, W]
    at::Tensor labels;   // [B] int64, or undefined
    at::Tensor states;   // [B, N, C, H, W], or undefined
  };

  void begin_copy(Batch batch);
  void write_copied();
  PngText text_of(const Batch& batch, std::size_t index) const;

  OutputLayout layout_;
  std::shared_ptr<const Conditions> conditions_;
  PngText text_;
  std::optional<c10::Stream> stream_;  // of the copies; on the CPU tensors are handed on as they are
  std::optional<c10::Event> copied_;
  std::optional<Batch> batch_;  // under way to the host
  ImageWriter writer_;
};

/// The pixels of a finished image, from its single file.
Image read_image(const OutputLayout& layout, std::uint64_t seed);

/// Puts the images' single files together, in the order of the seeds, as the files of many that the layout names, each
/// by rename, and removes the single ones. `labels` are the images', empty for models without; so many threads read.
void pack_images(const OutputLayout& layout, const std::vector<std::uint64_t>& seeds,
                 const std::vector<std::int64_t>& labels, int num_threads);

}  // namespace epd
