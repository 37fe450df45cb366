#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace epd {

class ProcessGroup;

/// Mean and covariance of a network's features over a set of images, and where they come from.
struct Statistics {
  at::Tensor mu;             // [F] float64
  at::Tensor sigma;          // [F, F] float64, symmetric; divisor count - 1
  std::int64_t count = 0;    // images; 0: unknown (files of other programs)
  std::int64_t skipped = 0;  // images that could not be read, beside `count`
  std::string detector;      // name of the network; empty: unknown
  std::string detector_sha256;
  std::string source;  // the images

  std::int64_t num_features() const { return mu.size(0); }
};

/// What the metrics need of a set of images.
struct FeatureSet {
  Statistics statistics;
  at::Tensor features;  // [N, F] float32 on the CPU, in the order of the images; undefined where they were not kept
  std::vector<std::size_t> skipped;  // images of the source that could not be read; on the root
};

/// Throws Error, beginning with `where`, unless mu is [F] and sigma [F, F], all finite, sigma symmetric (to 1e-6 of its
/// largest entry) and without a clearly negative eigenvalue (below -1e-6 of its Frobenius norm).
void require_valid(const Statistics& statistics, const std::string& where);

/// Reads the statistics that this program, EDM, pytorch-fid or another wrote: an .npz with `mu` and `sigma` of any
/// float type, order and compression; count, detector, detector_sha256 and source where they are there. Throws Error
/// that names the file and the array.
Statistics read_statistics(const std::filesystem::path& path);

/// Throws Error unless the two come from the same network: equal numbers of features and, where both are known, equal
/// detectors (by hash, else by name).
void require_same_detector(const Statistics& statistics, const Statistics& reference);

/// Whether the file holds statistics, not images: a zip archive, whatever its name, with an array mu or sigma; an .npz
/// also where it is without images.
bool is_statistics_file(const std::filesystem::path& path);

/// A reference file: statistics, and the array `features` where `fid ref --save_features` kept them and they are asked
/// for. Throws Error as read_statistics does.
FeatureSet read_feature_set(const std::filesystem::path& path, bool with_features);
/// Writes both; features where they are defined.
void write_feature_set(const std::filesystem::path& path, const FeatureSet& set);

/// The count, the sum and the sum of outer products of features, in float64, from which mean and covariance follow.
/// Constant memory however many images come.
///
/// The sums are of x - c, where c is the mean of the first features that were added: sums of x itself lose the digits
/// that mean^2 / variance has (networks whose features hardly vary). Sets with different c are joined through their
/// means and scatter matrices (Chan, Golub and LeVeque 1983), so the result depends on the order of the additions only
/// by rounding: the same calls give the same bits, another split of the images agrees to 1e-12.
class FeatureSums {
 public:
  explicit FeatureSums(std::int64_t num_features, at::Device device = at::kCPU);

  /// features [N, F] of any float type.
  void add(const at::Tensor& features);
  /// The sums of all processes, on every process. The bits depend on the number of processes alone.
  void all_reduce(ProcessGroup& group);

  std::int64_t count() const { return count_; }
  std::int64_t num_features() const { return shift_.size(0); }

  /// Mean and covariance (divisor count - 1), on the CPU. Throws Error for fewer than 2 images or features that are
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
