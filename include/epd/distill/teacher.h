#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <functional>
#include <unordered_map>
#include <vector>

#include "epd/denoiser/denoiser.h"
#include "epd/solver/plan.h"

namespace epd {

/// The images of one part of a batch: where they start and where the teacher takes them.
struct TeacherBatch {
  at::Tensor start;                // x(t_0), [B, C, H, W]
  Condition condition;             // of the B images
  std::vector<at::Tensor> states;  // the teacher's state at the end of student step n, n = 0 .. N-2
};

/// The condition of images with these seeds and (for models with labels) these labels [B].
using ConditionSource = std::function<Condition(const std::vector<std::uint64_t>& seeds, const at::Tensor& labels)>;

/// Where a trainer's batches come from.
class TrajectorySource {
 public:
  virtual ~TrajectorySource() = default;
  /// Images [first, first + count) of the iteration's batch of `batch_size`.
  virtual TeacherBatch batch(std::int64_t iteration, std::int64_t batch_size, std::int64_t first,
                             std::int64_t count) = 0;
};

/// The training images and their teacher trajectories. Image i of iteration n is a function of the base seed, n and i
/// alone: neither the number of processes nor the size of a batch's parts changes it. Training seeds lie in
/// [2^31, 2^32), so that images with seeds below 2^31 are never trained on.
class Teacher : public TrajectorySource {
 public:
  /// `plan` is the teacher's; `grid_points` are the points of its grid that the student's steps end at. With
  /// `cache_size` trajectories, passes over the same ones in a new order each time; 0 draws fresh ones.
  Teacher(const Denoiser& denoiser, ConditionSource condition, Plan<double> plan, std::vector<std::size_t> grid_points,
          std::uint64_t seed, std::int64_t cache_size, double t_0, at::Device device);

  TeacherBatch batch(std::int64_t iteration, std::int64_t batch_size, std::int64_t first, std::int64_t count) override;

 private:
  using Trajectory = std::vector<at::Tensor>;  // [C, H, W] at the end of each student step

  std::uint64_t image_number(std::int64_t position);
  void compute(const TeacherBatch& batch, const std::vector<std::uint64_t>& numbers);

  const Denoiser& denoiser_;
  ConditionSource condition_;
  Plan<double> plan_;
  std::vector<std::size_t> grid_points_;
  std::uint64_t seed_;
  std::int64_t cache_size_;
  double t_0_;
  at::Device device_;
  std::vector<std::int64_t> order_;  // of the cached images in pass number pass_
  std::int64_t pass_ = -1;
  std::unordered_map<std::uint64_t, Trajectory> trajectories_;
};

/// The seed of training image `number`: a hash, in [kFirstTrainingSeed, 2^32).
inline constexpr std::uint64_t kFirstTrainingSeed = std::uint64_t{1} << 31;
std::uint64_t training_seed(std::uint64_t base_seed, std::uint64_t number);

}  // namespace epd
