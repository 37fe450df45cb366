#include "epd/sampling/sampler.h"

#include <torch/csrc/autograd/grad_mode.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "epd/core/interrupt.h"
#include "epd/denoiser/device.h"
#include "epd/distributed/shard.h"
#include "epd/metrics/scorer.h"
#include "epd/metrics/tensor_images.h"
#include "epd/sampling/seed_noise.h"

namespace epd {
namespace {

/// A denoiser that stops before an evaluation when the run was asked to stop: a batch of a large network takes minutes.
class StoppableDenoiser : public Denoiser {
 public:
  explicit StoppableDenoiser(const Denoiser& inner) : inner_(inner) {}
  const ModelFacts& facts() const override { return inner_.facts(); }
  int cost() const override { return inner_.cost(); }
  at::Tensor forward(const at::Tensor& x, const at::Tensor& sigma, std::int64_t num_points,
                     const Condition& condition) const override {
    check_interrupt();
    return inner_.forward(x, sigma, num_points, condition);
  }
  Differentiated differentiate(const at::Tensor& x, const at::Tensor& sigma, std::int64_t num_points,
                               const Condition& condition) const override {
    return inner_.differentiate(x, sigma, num_points, condition);
  }

 private:
  const Denoiser& inner_;
};

/// Which rows of a batch hold finite numbers only: [B] bool.
at::Tensor finite_rows(const at::Tensor& batch) { return batch.isfinite().flatten(1).all(1); }

}  // namespace

const char* const BadImage::kAdvice = ": the network overflowed; try --precision fp32, or another schedule";

Sampler::Sampler(OpenedModel model, std::shared_ptr<const Conditions> conditions, Plan<double> plan, double t_0,
                 SamplerOptions options)
    : model_(std::move(model)),
      conditions_(std::move(conditions)),
      plan_(std::move(plan)),
      t_0_(t_0),
      options_(options),
      lanes_(model_.model->device()) {
  options_.decode_batch = decode_batch_or_default(options_.decode_batch, model_.model->device());
  if (plan_.mean) conditions_ = with_mean(std::move(conditions_), model_);
}

std::string BadImage::message() const { return text("the image of seed ", seed, " is not finite ", where); }

Samples Sampler::draw(const std::vector<std::uint64_t>& seeds) const {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> states;
  GridObserver observe;
  if (options_.keep_states) observe = [&](std::size_t, const at::Tensor& state) { states.push_back(state); };
  Samples samples = drawn(seeds, observe);
  samples.states = std::move(states);
  auto finite = finite_rows(samples.images);
  if (model_.facts().latent) finite = finite.logical_and(finite_rows(samples.end));
  finite = finite.cpu();
  if (!finite.all().item<bool>()) leave_out_bad(samples, finite);
  EPD_REQUIRE(samples.bad.empty() || options_.on_bad == OnBad::kSkip, samples.bad.front().message(), BadImage::kAdvice);
  return samples;
}

/// Keeps the rows that are finite, and finds out of the others where they first were not, by drawing them once more.
void Sampler::leave_out_bad(Samples& samples, const at::Tensor& finite) const {
  std::vector<std::uint64_t> good;
  for (std::size_t i = 0; i < samples.seeds.size(); ++i) {
    const auto seed = samples.seeds[i];
    if (finite[static_cast<std::int64_t>(i)].item<bool>()) {
      good.push_back(seed);
    } else {
      samples.bad.push_back({seed, "after the decoder"});
    }
  }
  std::vector<std::uint64_t> again;
  for (const auto& image : samples.bad) again.push_back(image.seed);
  std::vector<bool> named(again.size());
  drawn(again, [&](std::size_t point, const at::Tensor& state) {
    const auto rows = finite_rows(state).cpu();
    for (std::size_t i = 0; i < again.size(); ++i) {
      if (named[i] || rows[static_cast<std::int64_t>(i)].item<bool>()) continue;
      named[i] = true;
      samples.bad[i].where = text("from step ", point, " of ", plan_.grid.size() - 1, " on");
    }
  });
  samples.seeds = std::move(good);
  const auto index = finite.nonzero().squeeze(1).to(samples.images.device());
  const auto keep = [&](at::Tensor& rows) {
    if (rows.defined()) rows = rows.index_select(0, index);
  };
  for (at::Tensor* rows : {&samples.images, &samples.end, &samples.labels}) keep(*rows);
  for (at::Tensor& rows : samples.states) keep(rows);
}

Samples Sampler::drawn(const std::vector<std::uint64_t>& seeds, const GridObserver& observe) const {
  const auto device = model_.model->device();
  auto [latents, labels, streams] = seed_noise(seeds, model_.facts(), options_.random_device);
  if (labels.defined()) labels = to_device(labels, device);
  const auto condition = conditions_->of(seeds, labels);

  Samples samples;
  samples.seeds = seeds;
  samples.labels = condition.labels;
  latents = start_state(to_device(latents, device), t_0_);
  samples.end = execute(plan_, StoppableDenoiser(*model_.denoiser), condition, std::move(latents), observe, streams);
  samples.images = decoded(samples.end);
  return samples;
}

at::Tensor Sampler::decoded(const at::Tensor& states) const {
  if (!model_.facts().latent) return states;
  const auto slices = states.split(options_.decode_batch);
  std::vector<at::Tensor> images(slices.size());
  lanes_.run(slices.size(), [&](std::size_t i) {
    check_interrupt();
    images[i] = model_.model->decode(padded_rows(slices[i], options_.decode_batch)).narrow(0, 0, slices[i].size(0));
  });
  return at::cat(images);
}

std::int64_t images_at_once(std::int64_t batch, int processes, std::int64_t round) {
  const std::int64_t part = (batch + processes - 1) / processes;
  return (part + round - 1) / round * round;
}

std::int64_t most_points(const Plan<double>& plan) {
  std::size_t most = 1;
  for (const auto& instruction : plan.instructions) {
    if (const auto* evaluate = std::get_if<Evaluate<double>>(&instruction)) {
      most = std::max(most, evaluate->states.size());
    }
  }
  return static_cast<std::int64_t>(most);
}

DrawnStatistics draw_statistics(const Sampler& sampler, const std::vector<std::uint64_t>& seeds, std::int64_t at_once,
                                const std::shared_ptr<const Detector>& detector, ProcessGroup& group,
                                const std::string& source, const std::function<void(const Samples&)>& seen) {
  Scorer scorer(detector, /*keep_features=*/false);
  DrawnStatistics result;
  for (const auto& batch : batches_of(seeds, at_once)) {
    check_interrupt();
    synchronize(sampler.device());
    const auto start = std::chrono::steady_clock::now();
    const auto drawn = sampler.draw(batch);
    synchronize(sampler.device());
    result.seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    if (!drawn.seeds.empty()) scorer.add(for_detector(to_pixels(drawn.images)));
    if (seen) seen(drawn);
  }
  result.statistics = scorer.collect(group, source).statistics;
  return result;
}

}  // namespace epd
