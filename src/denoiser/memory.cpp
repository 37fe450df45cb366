#include "epd/denoiser/memory.h"

#include <algorithm>
#include <cmath>
#include <iomanip>

#include "epd/core/error.h"
#include "epd/core/run_main.h"
#include "epd/denoiser/device.h"
#include "epd/documents/model_facts_json.h"

namespace epd {
namespace {

std::string gib(std::int64_t bytes) {
  return text(std::fixed, std::setprecision(2), static_cast<double>(bytes) / (1 << 30));
}

}  // namespace

std::int64_t peak_bytes(std::int64_t images, std::int64_t chunk, const std::function<void(std::int64_t)>& work) {
  const auto first = peak_bytes([&] { work(std::min(images, chunk)); });
  if (images <= chunk) return first;
  const auto measured = std::min(images, 2 * chunk);
  const auto second = peak_bytes([&] { work(measured); });
  return second + (second - first) / chunk * (images - measured);
}

std::string MemoryNeed::text() const {
  std::string parts = epd::text("weights ", gib(weights), ", a chunk ", gib(chunk));
  if (decoder > 0) parts += epd::text(", the decoder ", gib(decoder));
  if (library > 0) parts += epd::text(", CUDA ", gib(library));
  return epd::text("memory: ", gib(total), " GiB (", parts, ")");
}

std::string text_or_why(const std::function<MemoryNeed()>& need) {
  try {
    return need().text();
  } catch (const std::exception& e) {
    return epd::text("memory: not known (", one_line(e.what()), ")");
  }
}

OpenedModel open_without_data(ModelOptions options) {
  auto& precision = options.precision;
  if (precision == Precision::kAuto) {
    precision = options.device.is_cpu() ? Precision::kFloat32 : read_model_facts(options.path).precision;
  }
  if (precision == Precision::kTf32) precision = Precision::kFloat32;  // of the same size
  make_reproducible(options.device);  // TorchScript keeps other tensors for gradients where it is not profiled
  options.device = at::kMeta;
  options.engine = Engine::kTorchScript;
  OpenedModel model;
  peak_bytes([&] { model = open_model(options); });
  model.identity.clear();
  return model;
}

Condition blank_condition(const ModelFacts& facts, std::int64_t images, at::Device device) {
  const auto options = at::TensorOptions(device).dtype(at::kFloat);
  Condition condition;
  if (facts.label_dim > 0) condition.labels = at::zeros({images}, options.dtype(at::kLong));
  if (facts.condition == ConditionKind::kText) {
    condition.value = at::zeros({images, facts.text->rows, facts.text->width}, options);
  } else if (facts.condition == ConditionKind::kLabel && facts.label_format == LabelFormat::kOneHot) {
    condition.value = at::zeros({images, facts.label_dim}, options);
  } else if (facts.condition == ConditionKind::kLabel) {
    condition.value = condition.labels;
  }
  condition.unconditional = condition.value;
  return condition;
}

std::int64_t chunk_bytes(const OpenedModel& model, std::int64_t chunk, std::int64_t num_points, bool gradients) {
  const auto& facts = model.facts();
  const auto options = at::TensorOptions(at::kMeta).dtype(at::kFloat);
  const auto condition = blank_condition(facts, chunk, at::kMeta);
  const auto x = at::zeros(facts.state_shape(num_points * chunk), options);
  const auto sigma = at::ones({num_points * chunk}, options);
  return peak_bytes([&] {
    if (gradients) {
      model.denoiser->pull_back(x, sigma, num_points, condition, x);
    } else {
      model.denoiser->forward(x, sigma, num_points, condition);
    }
  });
}

std::int64_t library_bytes(at::Device device) { return device.is_cuda() ? std::int64_t{640} << 20 : 0; }

std::int64_t chunk_that_fits(const ModelOptions& model, const ChunkUse& use) {
  constexpr double kShare = 0.6;  // the rest is for states, other networks, and what the allocator cannot use
  if (model.chunks.chunk > 0 || model.device.is_cpu()) return chunk_or_default(model.chunks.chunk, model.device);
  constexpr std::int64_t kResolution = 64;  // of images that `most` of keep a GPU busy
  const auto shape = read_model_facts(model.path, model.size).state_shape(1);
  const auto pixels = std::max(kResolution * kResolution, shape[2] * shape[3]);
  std::int64_t chunk = std::max<std::int64_t>(1, use.most * kResolution * kResolution / pixels);
  const auto memory = memory_of(model.device);
  if (!memory) return chunk;
  ModelOptions single = model;
  single.chunks.chunk = 1;
  const auto before = held_bytes();
  const auto opened = open_without_data(single);
  const auto weights = held_bytes() - before - opened.model->offloaded_bytes();
  const auto image = chunk_bytes(opened, 1, use.num_points, use.gradients);
  const double room =
      kShare * static_cast<double>(memory->total - library_bytes(model.device)) - static_cast<double>(weights);
  while (chunk > 1 && static_cast<double>(chunk * image) > room) chunk /= 2;
  return chunk;
}

}  // namespace epd
