#include "epd/sampling/seed_noise.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>

namespace epd {
namespace {

at::Generator generator_for(std::uint64_t seed, at::Device device) {
  if (device.is_cpu()) return at::make_generator<at::CPUGeneratorImpl>(seed);
  auto generator = at::globalContext().defaultGenerator(device).clone();  // a copy: the default one stays untouched
  generator.set_current_seed(seed);
  return generator;
}

}  // namespace

SeedNoise seed_noise(const std::vector<std::uint64_t>& seeds, const ModelFacts& facts, at::Device device) {
  const auto batch = static_cast<std::int64_t>(seeds.size());
  const auto options = at::TensorOptions(device).dtype(at::kFloat);
  SeedNoise noise{at::empty(facts.state_shape(batch), options), at::Tensor()};
  if (facts.label_dim > 0) noise.labels = at::empty({batch}, options.dtype(at::kLong));
  for (std::int64_t b = 0; b < batch; ++b) {
    const auto generator = generator_for(seeds[static_cast<std::size_t>(b)], device);
    noise.latents.select(0, b).normal_(0, 1, generator);
    if (facts.label_dim > 0) noise.labels.narrow(0, b, 1).random_(facts.label_dim, generator);
  }
  return noise;
}

at::Tensor start_state(const at::Tensor& latents, double t_0) { return latents * t_0; }

}  // namespace epd
