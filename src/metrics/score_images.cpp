#include "epd/metrics/score_images.h"

#include <ATen/ATen.h>

#include <cstring>

#include "epd/core/error.h"
#include "epd/core/interrupt.h"
#include "epd/core/progress.h"
#include "epd/distributed/process_group.h"
#include "epd/distributed/shard.h"
#include "epd/images/image_queue.h"

namespace epd {
namespace {

bool same_size(const Image& a, const Image& b) { return a.height == b.height && a.width == b.width; }

/// [N, 3, H, W] uint8 of pictures of one size.
at::Tensor to_tensor(const std::vector<Image>& images) {
  const auto& first = images.front();
  auto tensor = at::empty({static_cast<std::int64_t>(images.size()), first.height, first.width, 3}, at::kByte);
  auto* target = tensor.data_ptr<std::uint8_t>();
  for (const auto& image : images) {
    std::memcpy(target, image.pixels.data(), image.pixels.size());
    target += image.pixels.size();
  }
  return tensor.permute({0, 3, 1, 2});
}

/// Pictures of one size on their way to the scorer.
class Batch {
 public:
  Batch(Scorer& scorer, Progress& progress, std::size_t capacity)
      : scorer_(scorer), progress_(progress), capacity_(capacity) {}

  void add(Image image) {
    if (!images_.empty() && !same_size(images_.front(), image)) flush();
    images_.push_back(std::move(image));
    if (images_.size() == capacity_) flush();
  }
  void flush() {
    if (images_.empty()) return;
    check_interrupt();
    scorer_.add(to_tensor(images_));
    progress_.advance(static_cast<std::int64_t>(images_.size()));
    images_.clear();
  }

 private:
  Scorer& scorer_;
  Progress& progress_;
  const std::size_t capacity_;
  std::vector<Image> images_;
};

/// What the pictures after the first are compared with.
class SizeCheck {
 public:
  SizeCheck(const ImageSource& source, std::size_t first, bool wanted) : source_(source), first_(first) {
    if (wanted) size_ = source.load(first);
  }
  void operator()(const Image& image, std::size_t index) const {
    EPD_REQUIRE(size_.pixels.empty() || same_size(size_, image), source_.name(index), " is ", image.width, "x",
                image.height, ", but ", source_.name(first_), " is ", size_.width, "x", size_.height,
                "; pictures of several sizes need --allow_mixed_sizes");
  }

 private:
  const ImageSource& source_;
  const std::size_t first_;
  Image size_;
};

}  // namespace

FeatureSet score_images(const ImageSource& source, const std::vector<std::size_t>& indices,
                        const std::shared_ptr<const Detector>& detector, const ImagePass& pass, ProcessGroup& group,
                        const std::string& name) {
  EPD_REQUIRE(indices.size() >= 2, name, ": a covariance needs at least 2 pictures, there ",
              indices.size() == 1 ? "is 1" : "are none");
  auto share = share_of(indices, group.rank(), group.size());
  Scorer scorer(detector, pass.keep_features);
  {
    const SizeCheck check_size(source, indices.front(), !pass.allow_mixed_sizes);
    Progress progress("features of " + name, static_cast<std::int64_t>(share.size()), "images", group.is_root());
    Batch batch(scorer, progress, std::min<std::size_t>(pass.batch, static_cast<std::size_t>(detector->chunk())));
    Prefetcher prefetcher(source, std::move(share), {.threads = pass.workers, .window = pass.batch});
    while (auto item = prefetcher.next()) {
      check_size(item->image, item->index);
      batch.add(std::move(item->image));
    }
    batch.flush();
  }
  return scorer.collect(group, name);
}

}  // namespace epd
