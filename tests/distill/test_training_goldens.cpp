#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>
#include <vector>

#include "epd/distill/trainer.h"
#include "epd/schedule/sigma_map.h"
#include "support/golden_solvers.h"
#include "support/mixture_denoiser.h"

// Three iterations of the published training code, in float64 (tests/golden/solvers/README.md).
namespace epd {
namespace {

using nlohmann::json;
using testing::golden_cases;
using testing::TensorMixture;

TrainOptions options_of(const json& golden) {
  const auto& o = golden.at("options");
  TrainOptions options;
  options.dataset_name = "golden";
  options.student = value_of(kStudentNames, o.at("sampler_stu").get<std::string>(), "student");
  options.teacher = value_of(kSolverNames, o.at("sampler_tea").get<std::string>(), "teacher");
  options.objective = value_of(kObjectiveNames, o.at("objective").get<std::string>(), "objective");
  options.schedule_kind = value_of(kScheduleNames, o.at("schedule_type").get<std::string>(), "schedule");
  options.schedule_rho = o.at("schedule_rho");
  options.num_steps = o.at("num_steps");
  options.num_points = o.at("num_points");
  options.num_inserted = o.at("M");
  options.afs = o.at("afs").get<bool>() ? Afs::kAnalytical : Afs::kNo;
  options.scale_dir = o.at("scale_dir");
  options.scale_time = o.at("scale_time");
  options.fcn = o.at("fcn");
  options.max_order = o.at("max_order").get<int>();
  options.alpha = o.at("alpha");
  options.lr = o.at("lr");
  options.coslr = o.at("coslr");
  options.batch = golden.at("shape")[0];
  options.total_kimg = o.at("iterations").get<double>() * static_cast<double>(options.batch) / 1000;
  return options;
}

/// The start states of the golden, and the teacher's states that follow from them.
class GoldenTrajectories : public TrajectorySource {
 public:
  GoldenTrajectories(const json& golden, const TrainOptions& options, const Denoiser& denoiser)
      : golden_(golden), options_(options), denoiser_(denoiser), plan_(teacher_plan()) {}

  TeacherBatch batch(std::int64_t position, std::int64_t count) override {
    const std::int64_t iteration = position / options_.batch, first = position % options_.batch;
    TeacherBatch batch;
    batch.start = state(golden_.at("starts")[static_cast<std::size_t>(iteration)]).narrow(0, first, count);
    if (!golden_.at("labels").is_null()) {
      batch.condition.labels =
          at::tensor(golden_.at("labels").get<std::vector<std::int64_t>>()).narrow(0, first, count);
    }
    const auto stride = static_cast<std::size_t>(options_.num_inserted) + 1;
    execute(plan_, denoiser_, batch.condition, batch.start, [&](std::size_t point, const at::Tensor& x) {
      if (point > 0 && point % stride == 0) batch.states[point / stride - 1] = x;
    });
    if (options_.objective == Objective::kEndToEnd) batch.states = {*batch.states.rbegin()};
    return batch;
  }

 private:
  at::Tensor state(const json& flat) const {
    return at::tensor(flat.get<std::vector<double>>(), at::kDouble)
        .view(golden_.at("shape").get<std::vector<std::int64_t>>());
  }
  Plan<double> teacher_plan() const {
    const auto schedule = options_.initial_predictor(denoiser_.facts()).schedule;
    return make_plan(options_.teacher_options(Clock::kEdm),
                     make_time_steps(schedule, (options_.num_inserted + 1) * (options_.num_steps - 1) + 1));
  }

  const json& golden_;
  TrainOptions options_;
  const Denoiser& denoiser_;
  Plan<double> plan_;
};

std::unique_ptr<Loss> last_loss_of(const json& golden, double alpha) {
  if (golden.at("options").at("last_loss") == "l2") return l2_loss();
  return feature_loss([](const at::Tensor& images) { return at::tanh((images.flatten(1) - 128) / 64); },
                      [](const at::Tensor& states) { return states; }, alpha, /*chunk=*/4);
}

std::vector<double> flat(const json& parameters) {
  std::vector<double> result;
  for (const char* group : {"r_params", "weight_s", "scale_dir_params", "scale_time_params"}) {
    for (const auto& row : parameters.at(group)) {
      for (const double value : row) result.push_back(value);
    }
  }
  return result;
}

/// The gradients of a step in our order; a parameter without one, which nothing depends on, has 0.
std::vector<double> gradients_of(const json& step, std::size_t group_size) {
  std::vector<double> result;
  for (const char* group : {"r_params", "weight_s", "scale_dir_params", "scale_time_params"}) {
    if (!step.at("gradients").contains(group)) {
      result.insert(result.end(), group_size, 0.0);
      continue;
    }
    for (const auto& row : step.at("gradients").at(group)) {
      for (const double value : row) result.push_back(value);
    }
  }
  return result;
}

void expect_near(const std::vector<double>& ours, const std::vector<double>& published, double tolerance,
                 const std::string& what) {
  ASSERT_EQ(ours.size(), published.size()) << what;
  double largest = 0;
  for (const double value : published) largest = std::max(largest, std::abs(value));
  for (std::size_t i = 0; i < ours.size(); ++i) {
    EXPECT_NEAR(ours[i], published[i], tolerance * largest) << what << ", number " << i;
  }
}

/// Adam's running mean after the first iteration: what its gradients leave behind.
std::vector<double> first_mean(const json& golden, std::size_t num_steps, std::size_t group_size) {
  std::vector<double> mean(4 * group_size, 0.0);
  for (std::size_t n = 0; n < num_steps; ++n) {
    const auto& step = golden.at("steps")[n];
    if (step.at("gradients").empty()) continue;
    const auto gradients = gradients_of(step, group_size);
    for (std::size_t i = 0; i < mean.size(); ++i) mean[i] = 0.9 * mean[i] + 0.1 * gradients[i];
  }
  return mean;
}

void expect_training(const json& golden, const TrainerResources& resources) {
  const std::string name = golden.at("name");
  const TrainOptions options = options_of(golden);
  const TensorMixture denoiser;
  const auto group = ProcessGroup::alone();
  Trainer trainer(options, options.initial_predictor(denoiser.facts()), denoiser,
                  std::make_unique<GoldenTrajectories>(golden, options, denoiser), last_loss_of(golden, options.alpha),
                  resources, *group);
  TrainingState begin = trainer.state();
  begin.parameters = flat(golden.at("parameters"));
  trainer.restore(begin);

  const auto num_steps = static_cast<std::size_t>(options.num_steps) - 1;
  const bool per_step = options.objective == Objective::kPerStep;
  for (std::size_t iteration = 0; !trainer.done(); ++iteration) {
    const auto* steps = &golden.at("steps")[iteration * num_steps];
    const IterationReport report = trainer.iterate();
    ASSERT_EQ(report.loss.size(), per_step ? num_steps : 1) << name;
    for (std::size_t i = 0; i < report.loss.size(); ++i) {
      const std::size_t step = per_step ? i : num_steps - 1;
      const double published = golden.at("steps")[iteration * num_steps + step].at("loss");
      EXPECT_NEAR(report.loss[i], published, 1e-9 * published) << name << ", iteration " << iteration;
    }
    EXPECT_NEAR(report.learning_rate, steps->at("lr").get<double>(), 1e-14) << name;
    if (iteration == 0) {
      expect_near(trainer.state().adam_mean, first_mean(golden, num_steps, num_steps * options.num_points), 1e-9,
                  name + ", gradients");
    }
    const auto& after = golden.at("steps")[(iteration + 1) * num_steps - 1].at("parameters_after");
    expect_near(trainer.predictor().parameters().raw, flat(after), 1e-8, name + ", parameters");
  }
  EXPECT_EQ(trainer.iteration(), golden.at("options").at("iterations")) << name;
}

TEST(PublishedTraining, LossesGradientsAndParametersAreTheSame) {
  const auto cases = golden_cases("training");
  EXPECT_GE(cases.size(), 11U);
  for (const json& golden : cases) expect_training(golden, {});
}

TEST(PublishedTraining, IsTheSameInSmallPassesWithActivationsKept) {
  TrainerResources resources;
  resources.batch_gpu = 1;
  resources.adjoint = AdjointMemory::kKeep;
  for (const json& golden : golden_cases("training")) expect_training(golden, resources);
}

}  // namespace
}  // namespace epd
