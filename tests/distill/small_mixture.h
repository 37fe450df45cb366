#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "epd/distill/trainer.h"
#include "support/mixture_denoiser.h"

/// What students are taught on in these tests.
namespace epd::testing {

/// The closed mixtures as a model of images [3, 2, 2].
class SmallMixture : public TensorMixture {
 public:
  SmallMixture() {
    facts_.dataset_name = "mixture";
    facts_.resolution = 2;
    facts_.channels = 3;
  }
  const ModelFacts& facts() const override { return facts_; }

 private:
  ModelFacts facts_;
};

class NoConditions : public Conditions {
 public:
  Condition of(const std::vector<std::uint64_t>&, const at::Tensor&) const override { return {}; }
  std::string prompt(std::uint64_t) const override { return {}; }
};

inline std::unique_ptr<TrajectorySource> teacher_of(
    const TrainOptions& options, const Denoiser& denoiser,
    std::shared_ptr<const Conditions> conditions = std::make_shared<NoConditions>()) {
  return make_teacher(options, options.initial_predictor(denoiser.facts()), denoiser, std::move(conditions), at::kCPU);
}

inline Trainer make_trainer(const TrainOptions& options, const Denoiser& denoiser, ProcessGroup& group,
                            TrainerResources resources = {},
                            std::shared_ptr<const Conditions> conditions = std::make_shared<NoConditions>(),
                            std::unique_ptr<Loss> last_loss = l2_loss()) {
  auto validation = options.val_images > 0 ? teacher_of(options.for_validation(), denoiser, conditions) : nullptr;
  return Trainer(options, options.initial_predictor(denoiser.facts()), denoiser,
                 teacher_of(options, denoiser, conditions), std::move(last_loss), resources, group,
                 std::move(validation));
}

}  // namespace epd::testing
