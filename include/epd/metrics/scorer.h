#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "epd/metrics/detector.h"
#include "epd/metrics/feature_sums.h"
#include "epd/metrics/statistics.h"

namespace epd {

class ProcessGroup;

/// What the metrics need of a set of pictures.
struct FeatureSet {
  Statistics statistics;
  at::Tensor features;  // [N, F] float32 on the CPU, in the order of the pictures; undefined where they were not kept
};

/// Takes pictures as they come (decoded files, images just sampled), runs the detector on full chunks and sums.
/// The same pictures in the same order give the same bits, whatever the sizes of the pieces they are added in.
///
///     Scorer scorer(detector, /*keep_features=*/false);
///     scorer.add(images);                        // on every process, its share
///     const auto generated = scorer.collect(group, "samples");
///     if (group.is_root()) score(generated, reference, {}).fid
class Scorer {
 public:
  Scorer(std::shared_ptr<const Detector> detector, bool keep_features);

  /// images uint8 [N, 3, H, W], from any device, as a PNG of them would hold them.
  void add(const at::Tensor& images);

  /// Ends the adding. The statistics of all processes' pictures, on every process; the features, where kept, in order
  /// of rank on the root.
  FeatureSet collect(ProcessGroup& group, const std::string& source);

  std::int64_t count() const { return sums_.count() + pending_count(); }

 private:
  std::int64_t pending_count() const { return pending_.defined() ? pending_.size(0) : 0; }
  void run(const at::Tensor& images, bool pad);
  void flush(bool pad);

  std::shared_ptr<const Detector> detector_;
  bool keep_features_;
  FeatureSums sums_;
  at::Tensor pending_;  // fewer than a chunk, of one size
  std::vector<at::Tensor> kept_;
};

}  // namespace epd
