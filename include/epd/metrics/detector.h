#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

namespace epd {

struct Statistics;

struct DetectorOptions {
  at::Device device = at::kCPU;
  /// Images in one forward; a smaller last chunk is padded, so features do not depend on how the images come.
  /// 0: 32 on the CPU, 128 on a GPU, fewer of large images (chunk_of).
  std::int64_t chunk = 0;
  /// Features are for scoring alone: the network is optimised in ways that cut off the gradient.
  bool scoring_only = false;
};

/// A feature network as TorchScript: forward(images) -> [N, F], images [N, 3, H, W] in [0, 255], uint8 or float;
/// differentiable from float input. A second argument `return_features: bool` is passed as true where there is one
/// (NVIDIA's inception-2015-12-05.pt). It runs in float32 (TF32 off), frozen, in evaluation mode.
class Detector {
 public:
  /// Throws Error where the file is missing, no TorchScript or does not keep the contract; names the file and why.
  Detector(const std::filesystem::path& path, const DetectorOptions& options = {});
  ~Detector();
  Detector(const Detector&) = delete;
  Detector& operator=(const Detector&) = delete;

  /// Features [N, F] float32 on the detector's device of uint8 images [N, 3, H, W] from any device; without gradient.
  /// `pad` false: a smaller last chunk runs as it is (for sizes that stand alone in a mixed set).
  at::Tensor features(const at::Tensor& images, bool pad = true) const;
  /// Features [N, F] of float images [N, 3, H, W] in [0, 255], on the detector's device; gradients flow to the images.
  at::Tensor features_of(const at::Tensor& images) const;

  std::int64_t num_features() const { return num_features_; }
  /// The file's name without its ending; "demo" for the demo's own network.
  const std::string& name() const { return name_; }
  const std::string& sha256() const { return sha256_; }
  at::Device device() const { return options_.device; }
  /// The chunk of small images.
  std::int64_t chunk() const { return options_.chunk; }
  /// The chunk of images of this size: where it was not given, no more pixels at once than memory should hold.
  std::int64_t chunk_of(std::int64_t height, std::int64_t width) const;

 private:
  struct Module;
  at::Tensor run(const at::Tensor& images) const;
  void check_contract();

  std::filesystem::path path_;
  DetectorOptions options_;
  bool bounded_;  // the chunk, by pixels
  std::string name_, sha256_;
  std::int64_t num_features_ = 0;
  std::unique_ptr<Module> module_;
};

/// The detector that a dataset is scored with (find_detector), opened for scoring alone.
std::shared_ptr<const Detector> open_scoring_detector(const std::string& dataset_name, const std::string& detector,
                                                      at::Device device, std::int64_t chunk = 0);

/// What to know about the features of a network before trusting a distance between them.
std::string limits_of_detector(const std::string& name);

/// A warning where the reference does not say which network it is of, unless it is a dataset's published one.
void warn_of_unknown_detector(const Detector& detector, const Statistics& reference);

/// Throws Error unless the reference may be of this detector's features.
void require_same_detector(const Detector& detector, const Statistics& reference);

}  // namespace epd
