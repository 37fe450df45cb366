#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "epd/denoiser/open_model.h"
#include "epd/sampling/conditions.h"
#include "epd/solver/plan.h"

namespace epd {

struct SamplerOptions {
  at::Device random_device = at::kCPU;  // where the seeds' generators live
  std::int64_t decode_batch = 0;        // latents decoded in one forward, a smaller last slice padded; 0: the default
  bool keep_states = false;             // hand out the states at all grid points
};

/// Images as the network made them, on its device.
struct Drawn {
  at::Tensor images;               // [B, C, H, W] float32 in about [-1, 1], decoded
  at::Tensor labels;               // [B] int64, what was drawn or asked for; undefined for models without labels
  at::Tensor end;                  // [B, C, H, W], the state at the end of the plan, before decoding
  std::vector<at::Tensor> states;  // with keep_states: N of [B, C, H, W], before decoding
};

/// Seeds in, images out: latents, the plan, the decoder. Each image depends on its own seed alone.
class Sampler {
 public:
  Sampler(OpenedModel model, std::shared_ptr<const Conditions> conditions, Plan<double> plan, double t_0,
          SamplerOptions options);

  Drawn draw(const std::vector<std::uint64_t>& seeds) const;

 private:
  at::Tensor decoded(const at::Tensor& states) const;

  OpenedModel model_;
  std::shared_ptr<const Conditions> conditions_;
  Plan<double> plan_;
  double t_0_;
  SamplerOptions options_;
  Lanes lanes_;
};

}  // namespace epd
