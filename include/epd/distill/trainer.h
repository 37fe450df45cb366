#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "epd/denoiser/denoiser.h"
#include "epd/distill/loss.h"
#include "epd/distill/optimizer.h"
#include "epd/distill/student.h"
#include "epd/distill/teacher.h"
#include "epd/distill/train_options.h"
#include "epd/distributed/process_group.h"
#include "epd/documents/training_state.h"
#include "epd/runtime/execute.h"

namespace epd {

/// How a run does its work, which never changes what it learns.
struct TrainerResources {
  at::Device device = at::kCPU;
  std::int64_t batch_gpu = 0;  // images in one pass of a process; 0: its whole share
  AdjointMemory adjoint = AdjointMemory::kRecompute;
};

/// What one iteration did.
struct IterationReport {
  std::vector<double> loss;  // of each student step, mean over the batch; only those that were compared
  double learning_rate = 0;
  std::optional<double> validation;  // the loss on the validation's images, where it was asked for
  std::int64_t nonfinite_gradients = 0;
};

/// How well a student does on images that training never sees.
class Validation {
 public:
  /// The first `num_images` of the source, of which each process draws its share, `at_once` at a time (0: all of them).
  Validation(std::unique_ptr<TrajectorySource> source, std::int64_t num_images, std::int64_t at_once,
             const Denoiser& denoiser, ProcessGroup& group);

  /// The mean loss of the plan's end states: the same to the bit for any number of processes. Called by all of them.
  double loss_of(const Plan<double>& plan, const Loss& loss);

 private:
  std::unique_ptr<TrajectorySource> source_;
  std::int64_t num_images_, at_once_;
  const Denoiser& denoiser_;
  ProcessGroup& group_;
};

/// All iterations are done, or the validation has lost its patience.
bool is_done(const TrainOptions& options, const TrainingState& state);

/// Distils a predictor: the student follows the teacher's trajectories (EPD Algorithm 1; method.md "Distillation").
/// Each image's gradient by the parameters stands in its own row, whichever process found it, and the rows are summed
/// in order of the images: so neither processes nor passes change a bit of the result.
class Trainer {
 public:
  /// `start` is the predictor that training begins with: options.initial_predictor(), as make_teacher was given it.
  /// `validation` gives the val_images images that the best predictor is found on; null where there are none.
  Trainer(const TrainOptions& options, const PredictorSpec& start, const Denoiser& denoiser,
          std::unique_ptr<TrajectorySource> teacher, std::unique_ptr<Loss> last_loss, TrainerResources resources,
          ProcessGroup& group, std::unique_ptr<TrajectorySource> validation = nullptr);

  /// One batch: one update of the parameters under end_to_end, one per student step under per_step.
  /// Throws Error when the loss is not a number.
  IterationReport iterate();

  std::int64_t iteration() const { return iteration_; }
  std::int64_t num_iterations() const { return options_.num_iterations(); }
  bool done() const { return is_done(options_, completed_); }
  /// The student as it stands.
  PredictorSpec predictor() const;
  /// The best one of the validations; without any, the student as it stands.
  PredictorSpec best_predictor() const;
  /// Where the run stands after its last completed iteration: one that an exception ended never happened.
  TrainingState state() const { return completed_; }
  void restore(const TrainingState& state);
  /// The student's and the teacher's images of training images [0, count), for a look: [count, C, H, W] each.
  std::pair<at::Tensor, at::Tensor> preview(std::int64_t count);

 private:
  struct Part;  // the images of one pass, walking in step with the others
  struct Gradients;

  std::vector<Part> make_parts();
  void search(std::vector<Part>& parts, Gradients& gradients);
  at::Tensor search_directions(std::int64_t num_parameters) const;
  void compare(const Plan<Dual>& plan, std::vector<Part>& parts, std::size_t step, Gradients& gradients);
  double update(const Gradients& gradients, std::size_t step, IterationReport& report);
  const Loss& loss_of(std::size_t step) const;
  double validate();
  TrainingState present_state() const;

  TrainOptions options_;
  const Denoiser& denoiser_;
  TrainerResources resources_;
  ProcessGroup& group_;
  TimeSteps t_;
  std::unique_ptr<Student> student_;
  std::unique_ptr<TrajectorySource> teacher_;
  std::unique_ptr<Loss> l2_, last_loss_;
  std::optional<Validation> validation_;
  std::optional<TrainingState::Best> best_;
  AdamOptimizer optimizer_;
  std::int64_t iteration_ = 0;
  TrainingState completed_;
};

}  // namespace epd
