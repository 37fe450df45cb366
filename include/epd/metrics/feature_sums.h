#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <cstdint>

#include "epd/metrics/statistics.h"

namespace epd {

class ProcessGroup;

/// The count, the sum and the sum of outer products of features, in float64, from which mean and covariance follow.
/// Constant memory however many pictures come.
///
/// The sums are of x - c, where c is the mean of the first features that were added: sums of x itself lose the digits
/// that mean^2 / variance has (networks whose features hardly vary). Sets with different c are joined through their
/// means and scatter matrices (Chan, Golub and LeVeque 1983), so the result depends on the order of the additions only
/// by rounding: the same calls give the same bits, another split of the pictures agrees to 1e-12.
class FeatureSums {
 public:
  explicit FeatureSums(std::int64_t num_features, at::Device device = at::kCPU);

  /// features [N, F] of any float type.
  void add(const at::Tensor& features);
  /// As if everything that was added to `other` had been added here.
  void merge(const FeatureSums& other);
  /// The sums of all processes, on every process. The bits depend on the number of processes alone.
  void all_reduce(ProcessGroup& group);

  std::int64_t count() const { return count_; }
  std::int64_t num_features() const { return shift_.size(0); }

  /// Mean and covariance (divisor count - 1), on the CPU. Throws Error for fewer than 2 pictures or features that are
  /// not finite. Detector and source are the caller's to fill in.
  Statistics statistics() const;

 private:
  at::Tensor mean() const;     // [F]
  at::Tensor scatter() const;  // [F, F], sum of (x - mean)(x - mean)^T
  void assign(std::int64_t count, const at::Tensor& mean, const at::Tensor& scatter);

  std::int64_t count_ = 0;
  at::Tensor shift_;  // c, [F]
  at::Tensor sum_;    // of x - c, [F]
  at::Tensor outer_;  // of (x - c)(x - c)^T, [F, F]
};

}  // namespace epd
