#include "epd/sampling/data_mean.h"

#include <torch/csrc/autograd/grad_mode.h>

#include <utility>

#include "epd/assets/paths.h"
#include "epd/core/error.h"
#include "epd/core/log.h"
#include "epd/files/npz.h"
#include "epd/metrics/tensor_arrays.h"
#include "epd/sampling/latents.h"

namespace epd {
namespace {

namespace fs = std::filesystem;

/// The denoiser's mean over the latents and their mirror images, under one label or none: [C, H, W].
at::Tensor mean_of(const OpenedModel& model, const Conditions& conditions, const at::Tensor& label) {
  constexpr std::int64_t kPairs = 8;
  constexpr std::uint64_t kFirstSeed = std::uint64_t{1} << 31;  // no seed that images are drawn from
  const auto& facts = model.facts();
  const auto device = model.model->device();
  std::vector<std::uint64_t> seeds;
  for (std::int64_t i = 0; i < kPairs; ++i) seeds.push_back(kFirstSeed + static_cast<std::uint64_t>(i));
  const auto latents = draw(seeds, facts, at::kCPU).latents.to(device);
  const auto x = start_state(at::cat({latents, -latents}), facts.sigma_max);
  Condition condition;
  if (facts.condition == ConditionKind::kText) {
    condition.unconditional = conditions.of({0}, {}).unconditional.expand({2 * kPairs, -1, -1});
    condition.value = condition.unconditional;
  } else if (label.defined()) {
    condition = label_condition(label.expand({2 * kPairs}), facts);
  }
  return model.denoiser->forward(x, at::full({2 * kPairs}, facts.sigma_max, x.options()), 1, condition).mean(0);
}

/// [label_dim, C, H, W], or [1, C, H, W].
at::Tensor all_means(const OpenedModel& model, const Conditions& conditions) {
  const auto& facts = model.facts();
  if (facts.condition == ConditionKind::kText || facts.label_dim == 0) {
    return mean_of(model, conditions, {}).unsqueeze(0);
  }
  std::vector<at::Tensor> means;
  for (std::int64_t label = 0; label < facts.label_dim; ++label) {
    means.push_back(
        mean_of(model, conditions, at::full({1}, label, at::device(model.model->device()).dtype(at::kLong))));
  }
  return at::stack(means);
}

/// The means from the cache, or made and kept there. Where the cache cannot be written they are made again.
at::Tensor kept_means(const OpenedModel& model, const Conditions& conditions) {
  if (model.identity.empty()) return all_means(model, conditions);
  const fs::path path = cache_dir() / "means" / (model.identity + ".npz");
  try {
    if (fs::exists(path)) return to_float_tensor(NpzReader(path).read("mean")).to(model.model->device());
  } catch (const Error& error) {
    log::warning("making the mean of the data again: ", error.what());
  }
  const auto means = all_means(model, conditions);
  try {
    fs::create_directories(path.parent_path());
    write_npz(path, {{"mean", to_array(means)}});
  } catch (const std::exception& error) {
    log::warning("the mean of the data is not kept: ", error.what());
  }
  return means;
}

class MeanConditions : public Conditions {
 public:
  MeanConditions(std::shared_ptr<const Conditions> inner, at::Tensor means)
      : inner_(std::move(inner)), means_(std::move(means)) {}

  Condition of(const std::vector<std::uint64_t>& seeds, const at::Tensor& labels) const override {
    auto condition = inner_->of(seeds, labels);
    const bool one = means_.size(0) == 1;
    condition.mean = one ? means_.expand({static_cast<std::int64_t>(seeds.size()), -1, -1, -1})
                         : means_.index_select(0, condition.labels);
    return condition;
  }
  std::string prompt(std::uint64_t seed) const override { return inner_->prompt(seed); }

 private:
  std::shared_ptr<const Conditions> inner_;
  at::Tensor means_;
};

}  // namespace

std::shared_ptr<const Conditions> with_mean(std::shared_ptr<const Conditions> conditions, const OpenedModel& model) {
  const at::NoGradGuard no_grad;
  auto means = kept_means(model, *conditions);
  return std::make_shared<const MeanConditions>(std::move(conditions), std::move(means));
}

}  // namespace epd
