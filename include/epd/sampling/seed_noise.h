#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <vector>

#include "epd/core/model_facts.h"

namespace epd {

/// The random numbers of some images, each a function of its own seed alone.
struct SeedNoise {
  at::Tensor latents;                  // [B, C, H, W] float32, unit variance
  at::Tensor labels;                   // [B] int64; undefined for models without labels
  std::vector<at::Generator> streams;  // [B], where the images' generators are after these draws
};

/// One generator per image, seeded with its seed, draws the latent and then the label (randint(label_dim)): the numbers
/// of torch.Generator(device).manual_seed(seed). A plan's noise comes after them, draw by draw. Made on `device`; an
/// image does not depend on its neighbours.
SeedNoise seed_noise(const std::vector<std::uint64_t>& seeds, const ModelFacts& facts, at::Device device);

/// The labels alone, of a model with labels. A seed draws its label after its latent, so the latents are drawn too.
std::vector<std::int64_t> seed_labels(const std::vector<std::uint64_t>& seeds, const ModelFacts& facts,
                                      at::Device device);

/// The start of the ODE: x(t_0) = t_0 * latent (variance-exploding form, EDM eq. 1).
at::Tensor start_state(const at::Tensor& latents, double t_0);

}  // namespace epd
