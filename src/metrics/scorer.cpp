#include "epd/metrics/scorer.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <set>
#include <thread>
#include <utility>

#include "epd/core/error.h"
#include "epd/core/interrupt.h"
#include "epd/core/log.h"
#include "epd/core/progress.h"
#include "epd/distributed/process_group.h"
#include "epd/distributed/shard.h"
#include "epd/metrics/tensor_images.h"

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

bool same_size(const Image& a, const Image& b) { return a.height == b.height && a.width == b.width; }

/// Images of one size on their way to the scorer.
class Batch {
 public:
  Batch(Scorer& scorer, Progress& progress, const Detector& detector, std::size_t most)
      : scorer_(scorer), progress_(progress), detector_(detector), most_(most) {}

  void add(Image image) {
    if (!images_.empty() && !same_size(images_.front(), image)) flush();
    const auto chunk = static_cast<std::size_t>(detector_.chunk_of(image.height, image.width));
    images_.push_back(std::move(image));
    if (images_.size() >= std::min(most_, chunk)) flush();
  }
  void flush() {
    if (images_.empty()) return;
    check_interrupt();
    scorer_.add(for_detector(to_pixels(images_)));
    progress_.advance(static_cast<std::int64_t>(images_.size()));
    images_.clear();
  }

 private:
  Scorer& scorer_;
  Progress& progress_;
  const Detector& detector_;
  const std::size_t most_;
  std::vector<Image> images_;
};

/// What the images after the first that can be read are compared with.
class SizeCheck {
 public:
  SizeCheck(const ImageSource& source, const std::vector<std::size_t>& indices, bool wanted) : source_(source) {
    for (auto i = indices.begin(); wanted && size_.pixels.empty() && i != indices.end(); ++i) {
      first_ = *i;
      size_ = source.load(first_);
    }
  }
  void operator()(const Image& image, std::size_t index) const {
    EPD_REQUIRE(size_.pixels.empty() || same_size(size_, image), source_.name(index), " is ", image.width, "x",
                image.height, ", but ", source_.name(first_), " is ", size_.width, "x", size_.height,
                "; images of several sizes need --allow_mixed_sizes");
  }
  /// How many images of the first one's size may wait for the detector: a few chunks of large ones.
  std::size_t at_once(const Detector& detector) const {
    const auto chunk = detector.chunk_of(size_.height, size_.width);
    return chunk < detector.chunk() ? static_cast<std::size_t>(2 * chunk) : std::numeric_limits<std::size_t>::max();
  }

 private:
  const ImageSource& source_;
  std::size_t first_ = 0;
  Image size_;
};

/// What all processes found unreadable, on the root, with a warning.
std::vector<std::size_t> gather_unreadable(const ReadableImages& source, std::size_t num_images, ProcessGroup& group,
                                           const std::string& name) {
  std::string here;
  for (const auto& [index, reason] : source.unreadable()) here += std::to_string(index) + ' ';
  std::set<std::size_t> all;
  for (const auto& part : group.gather_bytes(here, "unreadable images")) {
    auto words = stream_of(part);
    for (std::size_t index = 0; words >> index;) all.insert(index);
  }
  if (!group.is_root() || all.empty()) return {};
  source.load(*all.begin());  // another process may have tried it
  log::warning(name, ": ", all.size(), " of ", num_images, " images are skipped: ", source.unreadable().begin()->second,
               all.size() > 1 ? ", ..." : "");
  return {all.begin(), all.end()};
}

}  // namespace

Scorer::Scorer(std::shared_ptr<const Detector> detector, bool keep_features, NameOf name_of)
    : detector_(std::move(detector)),
      keep_features_(keep_features),
      name_of_(std::move(name_of)),
      sums_(detector_->num_features(), detector_->device()) {}

void Scorer::require_finite(const at::Tensor& features) const {
  const auto finite = at::isfinite(features).all(1);
  if (finite.all().item<bool>()) return;
  const auto image = static_cast<std::size_t>(sums_.count() + finite.logical_not().nonzero()[0].item<std::int64_t>());
  throw Error(text("the detector ", detector_->name(), " gives features that are NaN or infinite for ",
                   name_of_ ? name_of_(image) : text("image ", image + 1)));
}

void Scorer::run(const at::Tensor& images, bool pad) {
  const auto features = detector_->features(images, pad);
  require_finite(features);
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
  const auto chunk = detector_->chunk_of(images.size(2), images.size(3));
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

int num_decoders(int workers, int num_processes) {
  if (workers > 0) return workers;
  const int cores = static_cast<int>(std::thread::hardware_concurrency());
  return std::clamp(cores / num_processes, 1, 8);
}

FeatureSet score_images(const ImageSource& source, const std::vector<std::size_t>& indices,
                        const std::shared_ptr<const Detector>& detector, const ImagePass& pass, ProcessGroup& group,
                        const std::string& name) {
  EPD_REQUIRE(indices.size() >= 2, name, ": a Frechet distance needs at least 2 images, there ",
              indices.size() == 1 ? "is 1" : "are none");
  auto share = share_of(indices, group.rank(), group.size());
  const ReadableImages readable(source);
  const bool skip = pass.on_bad == OnBad::kSkip;
  const ImageSource& images = skip ? static_cast<const ImageSource&>(readable) : source;
  std::vector<std::size_t> added;
  Scorer scorer(detector, pass.keep_features,
                [&](std::size_t i) { return text(source.name(added.at(i)), " of ", name); });
  {
    const SizeCheck check_size(images, indices, !pass.allow_mixed_sizes);
    Progress progress("features of " + name, static_cast<std::int64_t>(share.size()), "images", group.is_root());
    Batch batch(scorer, progress, *detector, pass.batch);
    const std::size_t window = std::min(pass.batch, check_size.at_once(*detector));
    Prefetcher prefetcher(images, std::move(share),
                          {.threads = num_decoders(pass.workers, group.size()), .window = window});
    while (auto item = prefetcher.next()) {
      if (item->image.pixels.empty()) continue;
      check_size(item->image, item->index);
      added.push_back(item->index);
      batch.add(std::move(item->image));
    }
    batch.flush();
  }
  if (group.is_root()) remark_on_orientation(source, name);
  std::vector<std::size_t> skipped;
  if (skip) skipped = gather_unreadable(readable, indices.size(), group, name);
  auto set = scorer.collect(group, name);
  set.statistics.skipped = static_cast<std::int64_t>(skipped.size());
  set.skipped = std::move(skipped);
  return set;
}

}  // namespace epd
