#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "epd/images/image_writer.h"
#include "epd/sampling/conditions.h"
#include "epd/sampling/host_transfer.h"
#include "epd/sampling/output_layout.h"
#include "epd/sampling/sampler.h"

namespace epd {

/// Turns drawn batches into one file an image, in the background: while a batch is computed, the one before is copied
/// from the device, and those before that are encoded and written by threads.
class ImageFiles {
 public:
  struct Options {
    int writer_threads = 2;
    PngText text;  // the same for every image; its seed, label and prompt are added
  };

  ImageFiles(const OutputLayout& layout, std::shared_ptr<const Conditions> conditions, at::Device device,
             Options options);

  /// Takes the next batch; waits while too many images are unwritten. Throws what writing an earlier one threw, and
  /// Error for an image that is not finite.
  void add(const std::vector<std::uint64_t>& seeds, const Drawn& drawn);
  /// Returns once everything is written.
  void finish();

 private:
  void write_arrived();
  void write_image(std::size_t index, const at::Tensor& content, const at::Tensor& labels);
  PngText text_of(std::uint64_t seed, const at::Tensor& labels, std::size_t index) const;

  OutputLayout layout_;
  std::shared_ptr<const Conditions> conditions_;
  PngText text_;
  HostTransfer transfer_;
  std::vector<std::uint64_t> seeds_;  // of the batch under way
  ImageWriter writer_;
};

}  // namespace epd
