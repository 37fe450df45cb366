#pragma once

#include <memory>

#include "epd/denoiser/denoiser.h"
#include "epd/denoiser/lanes.h"

namespace epd {

struct ChunkOptions {
  std::int64_t chunk = 16;          // images in one forward; a smaller last chunk is padded
  std::int64_t points_at_once = 0;  // parallel points in one forward; 0: all of them
};

/// `chunk`, or for 0 the default: 16 images on the CPU, 64 on a GPU.
std::int64_t chunk_or_default(std::int64_t chunk, at::Device device);

/// Latents that are decoded in one forward: `decode_batch`, or for 0 the default: 1 on the CPU, 8 on a GPU.
std::int64_t decode_batch_or_default(std::int64_t decode_batch, at::Device device);

/// Runs the network on chunks of one fixed number of images, whatever the batch: so an image's numbers depend neither
/// on the batch it came in nor on how many processes share the work, and kernels see one shape. On the CPU chunks
/// run side by side, forwards and gradients, each on one thread (lanes.h), so no number depends on how many there are.
class ChunkedDenoiser : public Denoiser {
 public:
  ChunkedDenoiser(std::shared_ptr<const Denoiser> inner, ChunkOptions options, at::Device device = at::kCPU);

  const ModelFacts& facts() const override { return inner_->facts(); }
  int cost() const override { return inner_->cost(); }
  at::Tensor forward(const at::Tensor& x, const at::Tensor& sigma, std::int64_t num_points,
                     const Condition& condition) const override;
  Differentiated differentiate(const at::Tensor& x, const at::Tensor& sigma, std::int64_t num_points,
                               const Condition& condition) const override;
  InputGradients pull_back(const at::Tensor& x, const at::Tensor& sigma, std::int64_t num_points,
                           const Condition& condition, const at::Tensor& gradient) const override;

 private:
  std::shared_ptr<const Denoiser> inner_;
  ChunkOptions options_;
  std::shared_ptr<const Lanes> lanes_;  // also of the pullbacks handed out, which may outlive this
};

}  // namespace epd
