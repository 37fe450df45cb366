#include "sample_scorer.h"

#include "epd/assets/paths.h"
#include "epd/core/log.h"
#include "epd/metrics/tensor_images.h"

namespace epd {

SampleScorer::SampleScorer(const ScoreOptions& options, const std::string& dataset_name, at::Device device)
    : options_(options),
      device_(device),
      reference_(read_feature_set(find_reference(options.reference), options.metrics.need_features())),
      detector_(open_scoring_detector(dataset_name, options.detector, device)),
      scorer_(detector_, options.metrics.need_features()) {
  require_same_detector(*detector_, reference_.statistics);
  if (options.detector.empty()) warn_of_unknown_detector(*detector_, reference_.statistics);
}

void SampleScorer::add(const at::Tensor& pixels) { scorer_.add(for_detector(pixels)); }

ScoredSamples SampleScorer::finish(ProcessGroup& group, const std::string& source) {
  const auto generated = scorer_.collect(group, source);
  ScoredSamples result;
  if (!group.is_root()) return result;
  if (generated.statistics.count < generated.statistics.num_features()) {
    log::warning(generated.statistics.count, " images are fewer than the ", generated.statistics.num_features(),
                 " features; the FID is strongly biased");
  }
  result.scores = score(generated, reference_, options_.metrics, device_);
  result.record = result.scores.json();
  result.record.update({{"images", source},
                        {"num", generated.statistics.count},
                        {"reference", options_.reference.string()},
                        {"detector", detector_->name()},
                        {"detector_sha256", detector_->sha256()}});
  return result;
}

}  // namespace epd
