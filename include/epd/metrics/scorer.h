#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "epd/images/image_source.h"
#include "epd/metrics/detector.h"
#include "epd/metrics/statistics.h"

namespace epd {

/// Takes images as they come (decoded files, images just sampled), runs the detector on full chunks and sums.
/// The same images in the same order give the same bits, whatever the sizes of the pieces they are added in.
///
///     Scorer scorer(detector, /*keep_features=*/false);
///     scorer.add(images);                        // on every process, its share
///     const auto generated = scorer.collect(group, "samples");
///     if (group.is_root()) score(generated, reference, {}).fid
class Scorer {
 public:
  /// The name of the i-th image that was added, for errors.
  using NameOf = std::function<std::string(std::size_t i)>;

  Scorer(std::shared_ptr<const Detector> detector, bool keep_features, NameOf name_of = {});

  /// images uint8 [N, 3, H, W], from any device, as a PNG of them would hold them. Throws Error, naming the image and
  /// the detector, where features are NaN or infinite.
  void add(const at::Tensor& images);

  /// Ends the adding. The statistics of all processes' images, on every process; the features, where kept, in order
  /// of rank on the root.
  FeatureSet collect(ProcessGroup& group, const std::string& source);

  std::int64_t count() const { return sums_.count() + pending_count(); }

 private:
  std::int64_t pending_count() const { return pending_.defined() ? pending_.size(0) : 0; }
  void run(const at::Tensor& images, bool pad);
  void flush(bool pad);
  void require_finite(const at::Tensor& features) const;

  std::shared_ptr<const Detector> detector_;
  bool keep_features_;
  NameOf name_of_;
  FeatureSums sums_;
  at::Tensor pending_;  // fewer than a chunk, of one size
  std::vector<at::Tensor> kept_;
};

struct ImagePass {
  std::size_t batch = 250;         // images decoded ahead of the network: memory, never the result
  int workers = 0;                 // threads that decode; 0: by the cores (num_decoders)
  bool allow_mixed_sizes = false;  // each image to the detector at its own size
  bool keep_features = false;
  OnBad on_bad = OnBad::kStop;  // unreadable images
};

/// Threads that decode the images of one of so many processes: workers, or for 0 its share of the cores, 8 at most.
int num_decoders(int workers, int num_processes);

/// The features of these images of the source: each process takes a run of consecutive ones. `name` is the source's
/// in the statistics, in the progress bar and in messages. Throws Error, naming the file, for an image that cannot be
/// read (unless those are to be skipped) or, unless mixed sizes are allowed, is of another size than the first; for
/// fewer than 2 images.
FeatureSet score_images(const ImageSource& source, const std::vector<std::size_t>& indices,
                        const std::shared_ptr<const Detector>& detector, const ImagePass& pass, ProcessGroup& group,
                        const std::string& name);

}  // namespace epd
