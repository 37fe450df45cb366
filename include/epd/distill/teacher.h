#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "epd/denoiser/denoiser.h"
#include "epd/distill/train_options.h"
#include "epd/sampling/conditions.h"
#include "epd/solver/plan.h"

namespace epd {

/// By student step, for the steps that are compared: the teacher's states at its end, [B, C, H, W].
using StatesByStep = std::map<std::size_t, at::Tensor>;

/// Some training images: where they start and where the teacher takes them.
struct TeacherBatch {
  at::Tensor start;     // x(t_0), [B, C, H, W]
  Condition condition;  // of the B images
  StatesByStep states;
  std::vector<std::string> texts;         // the prompt of each image; empty ones for models without text
  std::vector<at::Generator> noise = {};  // of each image, for students that draw noise
};

/// Where a trainer's batches come from: an endless sequence of images.
class TrajectorySource {
 public:
  virtual ~TrajectorySource() = default;
  /// Images [first, first + count) of the sequence.
  virtual TeacherBatch batch(std::int64_t first, std::int64_t count) = 0;
  /// What the image at this place of the sequence is made of, for messages: ", seed 2147483650, 'a cat'".
  virtual std::string described(std::int64_t) { return {}; }
};

/// The training images and their teacher trajectories. Image i is a function of the base seed and i alone: neither the
/// number of processes nor the size of a batch changes it. Training seeds lie in [2^31, 2^32), so that images with
/// seeds below 2^31 are never trained on.
class Teacher : public TrajectorySource {
 public:
  /// `plan` is the teacher's; `ends` gives the point of its grid at which each student step that is compared ends.
  Teacher(const Denoiser& denoiser, std::shared_ptr<const Conditions> conditions, Plan<double> plan,
          std::map<std::size_t, std::size_t> ends, std::uint64_t seed, double t_0, at::Device device);

  TeacherBatch batch(std::int64_t first, std::int64_t count) override;
  std::string described(std::int64_t image) override;

  /// These images where they start, without states.
  TeacherBatch starts(const std::vector<std::int64_t>& images) const;
  /// Where the teacher takes them.
  StatesByStep states(const TeacherBatch& starts) const;

 private:
  const Denoiser& denoiser_;
  std::shared_ptr<const Conditions> conditions_;
  Plan<double> plan_;
  std::map<std::size_t, std::size_t> ends_;
  std::uint64_t seed_;
  double t_0_;
  at::Device device_;
};

/// Passes over the first `num_images` images of a teacher, in a new order each time; each trajectory is computed once.
class CachedTrajectories : public TrajectorySource {
 public:
  CachedTrajectories(Teacher teacher, std::int64_t num_images, std::uint64_t seed);

  TeacherBatch batch(std::int64_t first, std::int64_t count) override;
  std::string described(std::int64_t position) override { return teacher_.described(image_at(position)); }

 private:
  std::int64_t image_at(std::int64_t position);
  void compute(const TeacherBatch& starts, const std::vector<std::int64_t>& images);

  Teacher teacher_;
  std::int64_t num_images_;
  std::uint64_t seed_;
  std::vector<std::int64_t> order_;  // of the images in pass number pass_
  std::int64_t pass_ = -1;
  std::unordered_map<std::int64_t, StatesByStep> trajectories_;  // of each image, [C, H, W]
};

/// The teacher that these options ask for, with its states where the compared steps of the student end. `start` is the
/// predictor that training begins with (TrainOptions::initial_predictor).
std::unique_ptr<TrajectorySource> make_teacher(const TrainOptions& options, const PredictorSpec& start,
                                               const Denoiser& denoiser, std::shared_ptr<const Conditions> conditions,
                                               at::Device device);

/// The seed of training image `number`: a hash, in [kFirstTrainingSeed, 2^32).
inline constexpr std::uint64_t kFirstTrainingSeed = std::uint64_t{1} << 31;
std::uint64_t training_seed(std::uint64_t base_seed, std::uint64_t number);

}  // namespace epd
