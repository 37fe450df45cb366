#include "epd/sampling/latents.h"

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

Draws draw(const std::vector<std::uint64_t>& seeds, const ModelFacts& facts, at::Device device) {
  std::vector<at::Tensor> latents, labels;
  const auto options = at::TensorOptions(device).dtype(at::kFloat);
  for (const std::uint64_t seed : seeds) {
    auto generator = generator_for(seed, device);
    latents.push_back(at::randn({facts.channels, facts.resolution, facts.resolution}, generator, options));
    if (facts.label_dim > 0) labels.push_back(at::randint(facts.label_dim, {1}, generator, options.dtype(at::kLong)));
  }
  return {at::stack(latents), labels.empty() ? at::Tensor() : at::cat(labels)};
}

Condition label_condition(const at::Tensor& labels, const ModelFacts& facts) {
  Condition condition;
  if (facts.condition != ConditionKind::kLabel || !labels.defined()) return condition;
  condition.labels = labels;
  if (facts.label_format == LabelFormat::kIndex) {
    condition.value = labels;
  } else {
    condition.value = at::one_hot(labels, facts.label_dim).to(at::kFloat);
    condition.unconditional = at::zeros_like(condition.value);
  }
  return condition;
}

at::Tensor start_state(const at::Tensor& latents, double t_0) { return latents * t_0; }

}  // namespace epd
