#include "evaluator.h"

#include <algorithm>
#include <utility>

#include "epd/core/error.h"
#include "epd/distributed/shard.h"
#include "epd/metrics/frechet.h"
#include "epd/metrics/scorer.h"
#include "epd/sampling/pixels.h"
#include "epd/sampling/sampler.h"
#include "epd/solver/make_plan.h"

namespace epd {

Evaluator::Evaluator(const TrainRun& run, OpenedModel model, std::shared_ptr<const Conditions> conditions,
                     ProcessGroup& group)
    : run_(run),
      model_(std::move(model)),
      conditions_(std::move(conditions)),
      group_(group),
      reference_(read_statistics(run.evaluation.reference)) {
  const auto& o = run.evaluation;
  EPD_REQUIRE_USAGE(o.seeds.size() >= 2, "eval_seeds: a covariance needs at least 2 images");
  EPD_REQUIRE_USAGE(*std::ranges::max_element(o.seeds) < kFirstTrainingSeed, "eval_seeds: seeds from ",
                    kFirstTrainingSeed, " on are trained on");
  detector_ = open_scoring_detector(run.options.dataset_name, o.detector, run.resources.device);
  require_same_detector(*detector_, reference_);
  mine_ = share_of(o.seeds, group.rank(), group.size());
}

double Evaluator::distance(const PredictorSpec& student) const {
  const auto times = student.time_steps(make_sigma_map(model_.facts().noise).get());
  const Sampler sampler(model_, conditions_, make_plan(student, times), times[0], {});
  Scorer scorer(detector_, /*keep_features=*/false);
  for (const Shard& pass : passes_of({0, static_cast<std::int64_t>(mine_.size())}, run_.options.batch)) {
    group_.check_interrupt();
    const auto drawn = sampler.draw(part_of(mine_, pass));
    scorer.add(to_pixels(drawn.images).permute({0, 3, 1, 2}).expand({-1, 3, -1, -1}));
  }
  const auto statistics = scorer.collect(group_, "student").statistics;
  return std::max(0.0, frechet_distance(statistics, reference_, run_.resources.device));
}

}  // namespace epd
