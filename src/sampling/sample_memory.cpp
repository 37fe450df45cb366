#include <algorithm>

#include "epd/denoiser/memory.h"
#include "epd/metrics/tensor_images.h"
#include "epd/runtime/execute.h"
#include "epd/sampling/run_sample.h"
#include "epd/sampling/sampler.h"

namespace epd {

ModelOptions model_options(const SampleOptions& o, const ResolvedSample& resolved, at::Device device) {
  ModelOptions model{resolved.model_path,         device,   o.precision,      resolved.method.guidance,
                     {o.chunk, o.points_at_once}, o.engine, o.condition.size, o.offload};
  model.chunks.chunk = chunk_that_fits(model, {.num_points = most_points(resolved.method.plan)});
  return model;
}

MemoryNeed sample_memory(const SampleOptions& o, const ResolvedSample& resolved, at::Device device, int processes) {
  const auto options = model_options(o, resolved, device);
  const auto& plan = resolved.method.plan;
  const auto before = held_bytes();
  const auto model = open_without_data(options);
  const auto& facts = model.facts();
  const auto decode_batch = decode_batch_or_default(o.decode_batch, device);
  const auto chunk = options.chunks.chunk;

  MemoryNeed need;
  need.weights = held_bytes() - before - model.model->offloaded_bytes();
  need.chunk = chunk_bytes(model, chunk, most_points(plan), /*gradients=*/false);
  const auto of_meta = at::TensorOptions(at::kMeta).dtype(at::kFloat);
  const auto latents = [&](std::int64_t images) { return at::zeros(facts.state_shape(images), of_meta); };
  if (facts.latent) need.decoder = peak_bytes([&] { model.model->decode(latents(decode_batch)); });
  const auto texts = [&](std::int64_t images) {  // their states, as the conditions of a run are made
    std::vector<at::Tensor> states;
    for (const auto& part : at::zeros({images, facts.text->tokens}, of_meta.dtype(at::kLong)).split(chunk)) {
      states.push_back(model.model->encode_text(padded_rows(part, chunk)).narrow(0, 0, part.size(0)));
    }
    return at::cat(states);
  };
  at::Tensor written, written_states;  // a batch is on its way to the host while the next one is drawn
  const auto draw = [&](std::int64_t images) {
    std::vector<at::Tensor> states, decoded;
    const auto keep = [&](std::size_t, const at::Tensor& state) { states.push_back(state); };
    auto condition = blank_condition(facts, images, at::kMeta);
    if (plan.mean) condition.mean = latents(images);
    if (facts.text) condition.value = texts(images);
    const auto observe = o.save_inters ? GridObserver(keep) : nullptr;
    const std::vector<at::Generator> noise(static_cast<std::size_t>(images), at::detail::createCPUGenerator());
    auto end = execute(plan, *model.denoiser, condition, latents(images), observe, noise);
    if (facts.latent) {
      for (const auto& slice : end.split(decode_batch)) {
        decoded.push_back(model.model->decode(padded_rows(slice, decode_batch)).narrow(0, 0, slice.size(0)));
      }
      end = at::cat(decoded);
    }
    const auto next = o.format == SampleFormat::kRaw ? end : to_pixels(end);
    if (o.save_inters) written_states = at::stack(states, 1);
    written = next;
  };
  const auto batches = [&](std::int64_t images) {
    draw(images);
    if (static_cast<std::int64_t>(o.seeds.size()) > images * processes) draw(images);
    written.reset();
    written_states.reset();
  };
  const auto at_once = images_at_once(o.batch, processes, chunk * num_lanes(device));
  const auto images = std::min(at_once, static_cast<std::int64_t>((o.seeds.size() + processes - 1) / processes));
  const auto lanes = std::min<std::int64_t>(num_lanes(device), (images + chunk - 1) / chunk);
  need.library = library_bytes(device);
  need.total = need.weights + peak_bytes(images, chunk, batches) + need.library +
               (lanes - 1) * std::max(need.chunk, need.decoder);
  return need;
}

}  // namespace epd
