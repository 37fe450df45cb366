#include "epd/sampling/seed_noise.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>
#include <ATen/Parallel.h>

#include <algorithm>

#include "epd/distributed/shard.h"

namespace epd {
namespace {

constexpr std::int64_t kLabelsAtOnce = 64;

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
  SeedNoise noise{at::empty(facts.state_shape(batch), options), at::Tensor(), {}};
  if (facts.label_dim > 0) noise.labels = at::empty({batch}, options.dtype(at::kLong));
  for (std::int64_t b = 0; b < batch; ++b) {
    const auto& generator = noise.streams.emplace_back(generator_for(seeds[static_cast<std::size_t>(b)], device));
    noise.latents.select(0, b).normal_(0, 1, generator);
    if (facts.label_dim > 0) noise.labels.narrow(0, b, 1).random_(facts.label_dim, generator);
  }
  return noise;
}

std::vector<std::int64_t> seed_labels(const std::vector<std::uint64_t>& seeds, const ModelFacts& facts,
                                      at::Device device) {
  std::vector<std::int64_t> result(seeds.size());
  const auto draw = [&](std::int64_t begin, std::int64_t end) {
    for (const Shard& pass : passes_of({begin, end}, kLabelsAtOnce)) {
      const auto labels = seed_noise(part_of(seeds, pass), facts, device).labels.cpu();
      std::copy_n(labels.const_data_ptr<std::int64_t>(), pass.size(), result.begin() + pass.begin);
    }
  };
  const auto count = static_cast<std::int64_t>(seeds.size());
  device.is_cpu() ? at::parallel_for(0, count, kLabelsAtOnce, draw) : draw(0, count);
  return result;
}

at::Tensor start_state(const at::Tensor& latents, double t_0) { return latents * t_0; }

}  // namespace epd
