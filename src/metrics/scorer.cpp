#include "epd/metrics/scorer.h"

#include <ATen/ATen.h>

#include <cstring>
#include <utility>

#include "epd/core/error.h"
#include "epd/distributed/process_group.h"

namespace epd {
namespace {

std::string to_bytes(const at::Tensor& features) {
  const auto values = features.contiguous();
  return {static_cast<const char*>(values.data_ptr()), values.nbytes()};
}

at::Tensor from_bytes(const std::vector<std::string>& pieces, std::int64_t num_features) {
  std::vector<at::Tensor> parts;
  for (const auto& bytes : pieces) {
    const auto rows = static_cast<std::int64_t>(bytes.size() / sizeof(float)) / num_features;
    parts.push_back(at::empty({rows, num_features}, at::kFloat));
    std::memcpy(parts.back().data_ptr(), bytes.data(), bytes.size());
  }
  return at::cat(parts);
}

}  // namespace

Scorer::Scorer(std::shared_ptr<const Detector> detector, bool keep_features)
    : detector_(std::move(detector)),
      keep_features_(keep_features),
      sums_(detector_->num_features(), detector_->device()) {}

void Scorer::run(const at::Tensor& images, bool pad) {
  const auto features = detector_->features(images, pad);
  sums_.add(features);
  if (keep_features_) kept_.push_back(features.cpu());
}

void Scorer::flush(bool pad) {
  if (pending_count() > 0) run(pending_, pad);
  pending_.reset();
}

void Scorer::add(const at::Tensor& images) {
  EPD_REQUIRE(images.dim() == 4 && images.size(1) == 3 && images.scalar_type() == at::kByte,
              "expected uint8 images [N, 3, H, W], got ", c10::toString(images.scalar_type()), " ", images.sizes());
  const bool same_size = pending_count() == 0 || pending_.sizes().slice(1) == images.sizes().slice(1);
  if (!same_size) flush(/*pad=*/false);
  auto waiting = pending_count() > 0 ? at::cat({pending_, images}) : images;
  const auto chunk = detector_->chunk();
  while (waiting.size(0) >= chunk) {
    run(waiting.narrow(0, 0, chunk), /*pad=*/true);
    waiting = waiting.narrow(0, chunk, waiting.size(0) - chunk);
  }
  pending_ = waiting.clone();  // of its own, not a view of the caller's
}

FeatureSet Scorer::collect(ProcessGroup& group, const std::string& source) {
  flush(/*pad=*/true);
  sums_.all_reduce(group);
  FeatureSet set;
  set.statistics = sums_.statistics();
  set.statistics.detector = detector_->name();
  set.statistics.detector_sha256 = detector_->sha256();
  set.statistics.source = source;
  if (!keep_features_) return set;
  const auto here = kept_.empty() ? at::empty({0, detector_->num_features()}, at::kFloat) : at::cat(kept_);
  const auto pieces = group.gather_bytes(to_bytes(here), "features");
  if (group.is_root()) set.features = from_bytes(pieces, detector_->num_features());
  return set;
}

}  // namespace epd
