#include "epd/distill/trainer.h"

#include <ATen/CPUGeneratorImpl.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "epd/core/error.h"
#include "epd/distributed/shard.h"
#include "epd/runtime/adjoint.h"
#include "epd/schedule/sigma_map.h"

namespace epd {
namespace {

std::vector<Dual> learning(const std::vector<double>& parameters) {
  std::vector<Dual> result;
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    result.push_back(Dual::parameter(parameters[i], i, parameters.size()));
  }
  return result;
}

}  // namespace

struct Trainer::Part {
  std::int64_t first;  // the batch's image that its first row is
  TeacherBatch teacher;
  std::optional<Run<Dual>> run;  // until the last step's gradients are taken
};

/// Row i: the gradient of image i's loss by the parameters, and behind it the loss itself.
struct Trainer::Gradients {
  at::Tensor rows;

  Gradients(std::int64_t batch, std::size_t num_parameters)
      : rows(at::zeros({batch, static_cast<std::int64_t>(num_parameters) + 1}, at::kDouble)) {}
  at::Tensor of(const Part& part) const { return rows.narrow(0, part.first, part.run->batch()); }
};

Validation::Validation(std::unique_ptr<TrajectorySource> source, std::int64_t num_images, std::int64_t at_once,
                       const Denoiser& denoiser, ProcessGroup& group)
    : source_(std::move(source)), num_images_(num_images), at_once_(at_once), denoiser_(denoiser), group_(group) {}

double Validation::loss_of(const Plan<double>& plan, const Loss& loss) {
  auto losses = at::zeros({num_images_}, at::kDouble);
  const Shard mine = shard_of(num_images_, group_.rank(), group_.size());
  for (const Shard& pass : passes_of(mine, at_once_)) {
    const auto batch = source_->batch(pass.begin, pass.size());
    const auto end = execute(plan, denoiser_, batch.condition, batch.start, nullptr, batch.noise);
    losses.narrow(0, pass.begin, pass.size()).copy_(loss.value(end, batch.states.rbegin()->second, batch.texts));
  }
  group_.all_reduce_sum(losses, "validation");  // each image has one process that drew it: the sum is exact
  double sum = 0;
  for (std::int64_t i = 0; i < num_images_; ++i) sum += losses.const_data_ptr<double>()[i];
  return sum / static_cast<double>(num_images_);
}

Trainer::Trainer(const TrainOptions& options, const PredictorSpec& start, const Denoiser& denoiser,
                 std::unique_ptr<TrajectorySource> teacher, std::unique_ptr<Loss> last_loss, TrainerResources resources,
                 ProcessGroup& group, std::unique_ptr<TrajectorySource> validation)
    : options_(options.validated()),
      denoiser_(denoiser),
      resources_(resources),
      group_(group),
      t_(start.time_steps(make_sigma_map(denoiser.facts().noise).get())),
      student_(make_student(start, options.rates, t_)),
      teacher_(std::move(teacher)),
      l2_(l2_loss()),
      last_loss_(std::move(last_loss)),
      optimizer_(student_->start()) {
  EPD_REQUIRE_USAGE(resources_.batch_gpu >= 0, "batch_gpu: expected 0 (no limit) or more, got ", resources_.batch_gpu);
  if (options_.validation_images() > 0) {
    EPD_ASSERT(validation != nullptr, "a trainer that validates was given no images for it");
    validation_.emplace(std::move(validation), options_.validation_images(), resources_.batch_gpu, denoiser_, group_);
  }
  completed_ = present_state();
}

const Loss& Trainer::loss_of(std::size_t step) const {
  const bool early = static_cast<double>(iteration_) < options_.alpha_from * static_cast<double>(num_iterations());
  return step + 1 == student_->num_steps() && !early ? *last_loss_ : *l2_;
}

std::vector<Trainer::Part> Trainer::make_parts() {
  const Shard mine = shard_of(options_.batch, group_.rank(), group_.size());
  const auto keep = resources_.adjoint == AdjointMemory::kKeep ? KeepForAdjoint::kActivations : KeepForAdjoint::kStates;
  std::vector<Part> parts;
  for (const Shard& pass : passes_of(mine, resources_.batch_gpu)) {
    auto teacher = teacher_->batch(iteration_ * options_.batch + pass.begin, pass.size());
    Run<Dual> run(denoiser_, teacher.condition, teacher.start, keep, teacher.noise);
    parts.push_back({pass.begin, std::move(teacher), std::move(run)});
  }
  return parts;
}

IterationReport Trainer::iterate() {
  IterationReport report;
  if (validation_ && iteration_ == 0) validate();
  report.learning_rate = options_.learning_rate(iteration_);
  const bool per_step = options_.resolved_objective() == Objective::kPerStep;
  auto parts = make_parts();
  const auto run = student_->begin();
  for (std::size_t n = 0; n < student_->num_steps(); ++n) {
    const auto& plan = run->advance(learning(optimizer_.parameters()));
    if (!per_step && n + 1 < student_->num_steps()) continue;
    Gradients gradients(options_.batch, student_->start().size());
    if (options_.search) {
      search(parts, gradients);
    } else {
      compare(plan, parts, n, gradients);
    }
    report.loss.push_back(update(gradients, n, report));
  }
  ++iteration_;
  const bool last = iteration_ == num_iterations();
  if (validation_ && (last || iteration_ % options_.val_every == 0)) report.validation = validate();
  completed_ = present_state();
  return report;
}

/// The student's loss on the validation's images; remembers the best one.
double Trainer::validate() {
  const double loss = validation_->loss_of(make_plan(predictor(), t_), *last_loss_);
  if (!best_ || loss < best_->loss) best_ = {iteration_, loss, optimizer_.parameters()};
  return loss;
}

bool is_done(const TrainOptions& options, const TrainingState& state) {
  const bool waiting = options.patience > 0 && state.best;
  const bool lost = waiting && state.iteration - state.best->iteration >= options.patience * options.val_every;
  return lost || state.iteration >= options.num_iterations();
}

/// Walks all parts to the end of the step and fills in the gradients of its loss.
void Trainer::compare(const Plan<Dual>& plan, std::vector<Part>& parts, std::size_t step, Gradients& gradients) {
  for (Part& part : parts) {
    part.run->advance(plan);
    const Register end = plan.grid.back();
    const LossValue loss = loss_of(step).compare((*part.run)[end], part.teacher.states.at(step));
    const auto by_parameters = parameter_gradients(plan, *part.run, {{end, loss.gradient}}, student_->start().size());
    gradients.of(part).copy_(at::cat({by_parameters, loss.per_image.unsqueeze(1)}, 1));
    if (step + 1 == student_->num_steps()) part.run.reset();
  }
}

/// Fills in the gradients as they are seen from outside: along directions u_k that are orthogonal to each other,
///   g = n / K sum_k u_k (L(p + h u_k) - L(p - h u_k)) / (2 h),
/// exact up to h^2 where there are as many directions as parameters, unbiased where there are fewer (evolution
/// strategies with antithetic, orthogonal directions; Salimans et al. 2017, Choromanski et al. 2018).
void Trainer::search(std::vector<Part>& parts, Gradients& gradients) {
  const auto here = at::tensor(optimizer_.parameters(), at::kDouble);
  const auto directions = search_directions(here.numel());
  const double h = options_.search_scale;
  const auto plan_at = [&](const at::Tensor& raw) {
    const auto* begin = raw.const_data_ptr<double>();
    return make_plan(student_->predictor({begin, begin + raw.numel()}), t_);
  };
  const auto num = static_cast<double>(directions.size(0));
  const auto last = student_->num_steps() - 1;
  for (std::int64_t k = 0; k < directions.size(0); ++k) {
    const auto above = plan_at(here + h * directions[k]), below = plan_at(here - h * directions[k]);
    for (Part& part : parts) {
      const auto loss = [&, &batch = part.teacher](const auto& plan) {
        const auto end = execute(plan, denoiser_, batch.condition, batch.start, nullptr, batch.noise);
        return loss_of(last).value(end, batch.states.at(last), batch.texts);
      };
      const auto up = loss(above), down = loss(below);
      const auto slope = (up - down) * (static_cast<double>(here.numel()) / (2 * h * num));
      gradients.of(part).add_(at::cat({at::outer(slope, directions[k]), ((up + down) / (2 * num)).unsqueeze(1)}, 1));
    }
  }
}

/// [K, n], orthonormal; the coordinates themselves where there are enough of them.
at::Tensor Trainer::search_directions(std::int64_t num_parameters) const {
  const std::int64_t wanted = options_.search_directions;
  if (wanted == 0 || wanted >= num_parameters) return at::eye(num_parameters, at::kDouble);
  auto generator =
      at::make_generator<at::CPUGeneratorImpl>(training_seed(~options_.seed, static_cast<std::uint64_t>(iteration_)));
  const auto random = at::randn({num_parameters, wanted}, generator, at::kDouble);
  return std::get<0>(at::linalg_qr(random)).t().contiguous();
}

/// Sums the images' rows in their order and moves the parameters; returns the mean loss.
double Trainer::update(const Gradients& gradients, std::size_t step, IterationReport& report) {
  auto rows = gradients.rows;
  group_.all_reduce_sum(rows, "gradients");  // each row has one process that filled it: the sum is exact
  const auto table = rows.accessor<double, 2>();
  std::vector<double> sum(student_->start().size() + 1, 0.0);
  for (std::int64_t image = 0; image < options_.batch; ++image) {
    for (std::size_t p = 0; p < sum.size(); ++p) sum[p] += table[image][static_cast<std::int64_t>(p)];
  }
  for (double& value : sum) value /= static_cast<double>(options_.batch);
  const double loss = sum.back();
  if (!std::isfinite(loss)) {
    std::int64_t image = 0;
    while (image + 1 < options_.batch && std::isfinite(table[image][rows.size(1) - 1])) ++image;
    throw Error(text("training: the loss of step ", step, " in iteration ", iteration_, " is ", loss, " (image ", image,
                     teacher_->described(iteration_ * options_.batch + image), ") at learning rate ",
                     report.learning_rate, "; lower --lr, or check the model and the schedule"));
  }
  sum.pop_back();
  for (double& value : sum) {
    if (std::isfinite(value)) continue;
    ++report.nonfinite_gradients;
    value = std::isnan(value) ? 0 : std::copysign(1e5, value);  // as published
  }
  optimizer_.step(sum, report.learning_rate);
  return loss;
}

PredictorSpec Trainer::predictor() const { return student_->predictor(optimizer_.parameters()); }

PredictorSpec Trainer::best_predictor() const { return best_ ? student_->predictor(best_->parameters) : predictor(); }

TrainingState Trainer::present_state() const {
  const auto moments = optimizer_.moments();
  TrainingState state;
  state.iteration = iteration_;
  state.parameters = optimizer_.parameters();
  state.adam_mean = moments.mean;
  state.adam_square = moments.square;
  state.adam_steps = moments.steps;
  state.best = best_;
  return state;
}

void Trainer::restore(const TrainingState& state) {
  EPD_REQUIRE(state.parameters.size() == student_->start().size(), "resume: the checkpoint has ",
              state.parameters.size(), " parameters, but these options give ", student_->start().size());
  optimizer_.restore(state.parameters, {state.adam_mean, state.adam_square, state.adam_steps});
  iteration_ = state.iteration;
  best_ = state.best;
  completed_ = present_state();
}

std::pair<at::Tensor, at::Tensor> Trainer::preview(std::int64_t count) {
  const auto batch = teacher_->batch(0, std::min(count, options_.batch));
  const auto student =
      execute(make_plan(best_predictor(), t_), denoiser_, batch.condition, batch.start, nullptr, batch.noise);
  return {student, batch.states.rbegin()->second};
}

}  // namespace epd
