#include "train_setup.h"

#include <algorithm>
#include <utility>

#include "epd/assets/paths.h"
#include "epd/documents/model_facts_json.h"
#include "epd/sampling/sampler.h"
#include "epd/schedule/sigma_map.h"
#include "epd/solver/make_plan.h"

namespace epd {
namespace {

ModelOptions model_options(const TrainRun& run) {
  const auto& o = run.options;
  return {find_model(o.dataset_name, run.model_path),
          run.resources.device,
          run.precision,
          {o.guidance_type, o.guidance_rate.value_or(1), o.thresholding},
          {run.chunk, run.points_at_once}};
}

std::int64_t most_points(const PredictorSpec& start, const ModelFacts& facts) {
  return epd::most_points(make_plan(start, start.time_steps(make_sigma_map(facts.noise).get())));
}

std::shared_ptr<const Detector> open_detector(const TrainRun& run) {
  if (run.options.loss_metric == LossMetric::kL2 || !run.reward.empty()) return nullptr;
  DetectorOptions options;
  options.device = run.resources.device;
  return std::make_shared<const Detector>(find_detector(run.options.dataset_name, run.detector), options);
}

/// Decoding and features of a latent model take so much more memory than its network that they have a chunk of their
/// own.
std::unique_ptr<Loss> make_last_loss(const TrainRun& run, const TrainSetup& setup) {
  const auto decode = [model = setup.model.model](const at::Tensor& x) { return model->decode(x); };
  if (!run.reward.empty()) return reward_loss(run.reward, decode, run.resources.device);
  if (!setup.detector) return l2_loss();
  auto features = feature_loss([detector = setup.detector](const at::Tensor& x) { return detector->features_of(x); },
                               decode, run.options.alpha, setup.model.facts().latent ? run.decode_batch : run.chunk);
  if (run.options.loss_metric != LossMetric::kL2AndFeatures) return features;
  return sum_of_losses(l2_loss(), std::move(features));
}

/// The shapes of the model's conditions, and nothing in them.
class BlankConditions : public Conditions {
 public:
  BlankConditions(const ModelFacts& facts, bool with_mean) : facts_(facts), with_mean_(with_mean) {}
  Condition of(const std::vector<std::uint64_t>& seeds, const at::Tensor&) const override {
    const auto images = static_cast<std::int64_t>(seeds.size());
    auto condition = blank_condition(facts_, images, at::kMeta);
    if (with_mean_)
      condition.mean = at::zeros({images, facts_.channels, facts_.resolution, facts_.resolution}, at::kMeta);
    return condition;
  }
  std::string prompt(std::uint64_t) const override { return {}; }

 private:
  ModelFacts facts_;
  bool with_mean_;
};

/// The options of an iteration with so many images, whose memory is that of each.
TrainRun iteration_of(TrainRun run, std::int64_t images) {
  auto& o = run.options;
  o.batch = images;
  o.teacher_cache = 0;
  o.val_images = 0;
  o.patience = 0;
  return run;
}

}  // namespace

TrainRun with_defaults(TrainRun run) {
  const auto device = run.resources.device;
  if (!device.is_cpu()) {
    const auto model = model_options(run);
    const auto facts = read_model_facts(model.path);
    // With few images kernels are as fast as their launch, with more a small share of a batch is padded.
    run.chunk = chunk_that_fits(model, {.num_points = most_points(run.options.initial_predictor(facts), facts),
                                        .gradients = true,
                                        .most = std::min<std::int64_t>(16, run.options.batch)});
  }
  run.chunk = chunk_or_default(run.chunk, device);
  run.decode_batch = decode_batch_or_default(run.decode_batch, device);
  if (run.resources.batch_gpu == 0) run.resources.batch_gpu = run.chunk * num_lanes(device);
  return run;
}

TrainSetup::TrainSetup(const TrainRun& run) : TrainSetup(run, open_model(model_options(run))) {}

TrainSetup::TrainSetup(const TrainRun& run, OpenedModel opened)
    : model(std::move(opened)), detector(open_detector(run)), start(run.options.initial_predictor(model.facts())) {}

Trainer TrainSetup::trainer(const TrainRun& run, const std::shared_ptr<const Conditions>& conditions,
                            ProcessGroup& group) const {
  const auto teacher_of = [&](const TrainOptions& options) {
    return make_teacher(options, start, *model.denoiser, conditions, run.resources.device);
  };
  return {run.options,
          start,
          *model.denoiser,
          teacher_of(run.options),
          make_last_loss(run, *this),
          run.resources,
          group,
          run.options.validation_images() > 0 ? teacher_of(run.options.for_validation()) : nullptr};
}

MemoryNeed train_memory(const TrainRun& given, at::Device device, int processes) {
  TrainRun run = given;
  run.resources.device = device;
  run = with_defaults(std::move(run));
  const auto before = held_bytes();
  auto model = open_without_data(model_options(run));
  run.resources.device = at::kMeta;
  const TrainSetup setup(run, std::move(model));
  const auto& facts = setup.model.facts();
  MemoryNeed need;
  need.weights = held_bytes() - before;
  need.chunk = chunk_bytes(setup.model, run.chunk, most_points(setup.start, facts), /*gradients=*/true);
  const auto iterate = [&](std::int64_t images) {
    const auto group = ProcessGroup::alone();
    const auto one = iteration_of(run, images);
    setup.trainer(one, std::make_shared<BlankConditions>(facts, setup.start.afs == Afs::kMean), *group).iterate();
  };
  const std::int64_t share = (run.options.batch + processes - 1) / processes;
  const std::int64_t pass = std::min(share, run.resources.batch_gpu);
  const auto lanes = std::min<std::int64_t>(num_lanes(device), (pass + run.chunk - 1) / run.chunk);
  // Trajectories that are kept: the states at the ends of the steps that are compared.
  const auto& o = run.options;
  const std::int64_t states = o.resolved_objective() == Objective::kPerStep ? setup.start.num_intervals() : 1;
  const std::int64_t numbers = std::int64_t{facts.channels} * facts.resolution * facts.resolution;
  const std::int64_t kept = (o.teacher_cache + o.validation_images()) / processes * states * numbers * 4;
  need.library = library_bytes(device);
  need.total = need.weights + peak_bytes(share, pass, iterate) + kept + need.library + (lanes - 1) * need.chunk;
  return need;
}

}  // namespace epd
