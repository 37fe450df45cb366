#include "evaluator.h"

#include <algorithm>
#include <utility>

#include "epd/assets/paths.h"
#include "epd/core/error.h"
#include "epd/distributed/shard.h"
#include "epd/metrics/frechet.h"
#include "epd/sampling/sampler.h"
#include "epd/solver/make_plan.h"

namespace epd {

Evaluator::Evaluator(const TrainRun& run, OpenedModel model, std::shared_ptr<const Conditions> conditions,
                     ProcessGroup& group)
    : run_(run),
      model_(std::move(model)),
      conditions_(std::move(conditions)),
      group_(group),
      reference_(read_statistics(find_reference(run.evaluation.reference))) {
  const auto& o = run.evaluation;
  EPD_REQUIRE_USAGE(o.seeds.size() >= 2, "eval_seeds: a Frechet distance needs at least 2 images");
  EPD_REQUIRE_USAGE(*std::ranges::max_element(o.seeds) < kFirstTrainingSeed, "eval_seeds: seeds from ",
                    kFirstTrainingSeed, " on are used in training");
  detector_ = open_scoring_detector(run.options.dataset_name, o.detector, run.resources.device);
  require_same_detector(*detector_, reference_);
  mine_ = share_of(o.seeds, group.rank(), group.size());
}

double Evaluator::distance(const PredictorSpec& student) const {
  const auto times = student.time_steps(make_sigma_map(model_.facts().noise).get());
  const Sampler sampler(model_, conditions_, make_plan(student, times), times[0], {});
  const auto drawn = draw_statistics(sampler, mine_, run_.options.batch, detector_, group_, "student");
  return std::max(0.0, frechet_distance(drawn.statistics, reference_, run_.resources.device));
}

}  // namespace epd
