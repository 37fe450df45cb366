#include "epd/denoiser/chunked.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "epd/core/error.h"

namespace epd {
namespace {

/// A block of `points` x `images` of a batch that is laid out as [K, B].
struct Block {
  std::int64_t first_point, points, first_image, images;

  /// Its rows of a tensor [K * B, ...], as [points, images, ...].
  at::Tensor of(const at::Tensor& batch, std::int64_t num_points) const {
    return batch.unflatten(0, {num_points, -1}).narrow(0, first_point, points).narrow(1, first_image, images);
  }
  /// The same, padded to `chunk` images, as rows.
  at::Tensor rows(const at::Tensor& batch, std::int64_t num_points, std::int64_t chunk) const {
    auto block = of(batch, num_points);
    if (images < chunk) block = padded_rows(block.transpose(0, 1), chunk).transpose(0, 1);
    return block.reshape(flat_shape(block)).contiguous();
  }
  /// The condition of its images, padded likewise.
  Condition part(const Condition& condition, std::int64_t chunk) const {
    return condition.slice(first_image, first_image + images).padded(chunk);
  }
  /// Its rows of a gradient by the padded result: the padding repeats an image, so it has none.
  at::Tensor gradient(const at::Tensor& batch, std::int64_t num_points, std::int64_t chunk) const {
    auto shape = batch.sizes().vec();
    shape[0] = points * chunk;
    const auto rows = at::zeros(shape, batch.options());
    unpadded(rows).copy_(of(batch, num_points));
    return rows;
  }
  /// Writes the rows of a padded result, without the padding, into the batch.
  void put(const at::Tensor& rows, const at::Tensor& batch, std::int64_t num_points) const {
    of(batch, num_points).copy_(unpadded(rows));
  }

 private:
  at::Tensor unpadded(const at::Tensor& rows) const { return rows.unflatten(0, {points, -1}).narrow(1, 0, images); }
  static std::vector<std::int64_t> flat_shape(const at::Tensor& block) {
    auto shape = block.sizes().vec();
    shape[1] *= shape[0];
    shape.erase(shape.begin());
    return shape;
  }
};

std::vector<Block> blocks_of(std::int64_t num_points, std::int64_t batch, const ChunkOptions& o) {
  const std::int64_t points = o.points_at_once > 0 ? std::min(o.points_at_once, num_points) : num_points;
  std::vector<Block> blocks;
  for (std::int64_t b = 0; b < batch; b += o.chunk) {
    for (std::int64_t k = 0; k < num_points; k += points) {
      blocks.push_back({k, std::min(points, num_points - k), b, std::min(o.chunk, batch - b)});
    }
  }
  return blocks;
}

}  // namespace

std::int64_t chunk_or_default(std::int64_t chunk, at::Device device) {
  return chunk > 0 ? chunk : device.is_cpu() ? 16 : 64;
}

std::int64_t decode_batch_or_default(std::int64_t decode_batch, at::Device device) {
  return decode_batch > 0 ? decode_batch : device.is_cpu() ? 1 : 8;
}

ChunkedDenoiser::ChunkedDenoiser(std::shared_ptr<const Denoiser> inner, ChunkOptions options, at::Device device)
    : inner_(std::move(inner)), options_(options), lanes_(std::make_shared<const Lanes>(device)) {
  EPD_REQUIRE_USAGE(options_.chunk >= 1, "chunk: expected at least 1, got ", options_.chunk);
  EPD_REQUIRE_USAGE(options_.points_at_once >= 0, "points_at_once: expected 0 (all) or more, got ",
                    options_.points_at_once);
}

at::Tensor ChunkedDenoiser::forward(const at::Tensor& x, const at::Tensor& sigma, std::int64_t num_points,
                                    const Condition& condition) const {
  const auto result = at::empty_like(x, at::MemoryFormat::Contiguous);
  const auto blocks = blocks_of(num_points, x.size(0) / num_points, options_);
  lanes_->run(blocks.size(), [&, chunk = options_.chunk](std::size_t i) {
    const Block& block = blocks[i];
    const auto denoised = inner_->forward(block.rows(x, num_points, chunk), block.rows(sigma, num_points, chunk),
                                          block.points, block.part(condition, chunk));
    block.put(denoised, result, num_points);
  });
  return result;
}

Differentiated ChunkedDenoiser::differentiate(const at::Tensor& x, const at::Tensor& sigma, std::int64_t num_points,
                                              const Condition& condition) const {
  const auto blocks = blocks_of(num_points, x.size(0) / num_points, options_);
  const auto result = at::empty_like(x, at::MemoryFormat::Contiguous);
  std::vector<std::function<InputGradients(const at::Tensor&)>> pullbacks(blocks.size());
  const auto chunk = options_.chunk;
  lanes_->run(blocks.size(), [&](std::size_t i) {
    const Block& block = blocks[i];
    auto differentiated = inner_->differentiate(block.rows(x, num_points, chunk), block.rows(sigma, num_points, chunk),
                                                block.points, block.part(condition, chunk));
    block.put(differentiated.denoised, result, num_points);
    pullbacks[i] = std::move(differentiated.pullback);
  });
  auto pullback = [=, lanes = lanes_, sigma_like = sigma.detach()](const at::Tensor& gradient) -> InputGradients {
    const InputGradients all{at::empty_like(gradient, at::MemoryFormat::Contiguous), at::empty_like(sigma_like)};
    lanes->run(blocks.size(), [&](std::size_t i) {
      const auto part = pullbacks[i](blocks[i].gradient(gradient, num_points, chunk));
      blocks[i].put(part.x, all.x, num_points);
      blocks[i].put(part.sigma, all.sigma, num_points);
    });
    return all;
  };
  return {result, std::move(pullback)};
}

InputGradients ChunkedDenoiser::pull_back(const at::Tensor& x, const at::Tensor& sigma, std::int64_t num_points,
                                          const Condition& condition, const at::Tensor& gradient) const {
  const InputGradients all{at::empty_like(gradient, at::MemoryFormat::Contiguous), at::empty_like(sigma)};
  const auto blocks = blocks_of(num_points, x.size(0) / num_points, options_);
  lanes_->run(blocks.size(), [&, chunk = options_.chunk](std::size_t i) {
    const Block& block = blocks[i];
    const auto part =
        inner_->pull_back(block.rows(x, num_points, chunk), block.rows(sigma, num_points, chunk), block.points,
                          block.part(condition, chunk), block.gradient(gradient, num_points, chunk));
    block.put(part.x, all.x, num_points);
    block.put(part.sigma, all.sigma, num_points);
  });
  return all;
}

}  // namespace epd
