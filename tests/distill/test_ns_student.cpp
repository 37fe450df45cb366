#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/script.h>

#include <cmath>
#include <string>
#include <vector>

#include "distill/small_mixture.h"
#include "epd/core/error.h"
#include "epd/distill/run_train.h"
#include "epd/documents/predictor_json.h"
#include "epd/files/atomic_file.h"
#include "epd/runtime/adjoint.h"
#include "epd/solver/make_plan.h"
#include "support/test_files.h"

// Student ns: a whole plan whose every number is learned.
namespace epd {
namespace {

using ::testing::HasSubstr;
using testing::make_trainer;
using testing::SmallMixture;
using testing::teacher_of;

TrainOptions ns_options() {
  TrainOptions options;
  options.coslr = false;
  options.val_images = 0;
  options.dataset_name = "mixture";
  options.student = StudentKind::kNs;
  options.num_steps = 5;
  options.schedule_kind = ScheduleKind::kTimeUniform;
  options.schedule_rho = 1;
  options.teacher = solver_kind("heun");
  options.num_inserted = 9;
  options.batch = 8;
  options.total_kimg = 0.48;
  options.coslr = true;
  return options;
}

/// The mean loss of a predictor on images that training never sees.
double loss_of(const PredictorSpec& predictor, TrainOptions options) {
  options.seed += 1000;
  const SmallMixture denoiser;
  const auto batch = teacher_of(options, denoiser)->batch(0, 64);
  const auto end = execute(make_plan(predictor, predictor.time_steps()), denoiser, batch.condition, batch.start);
  return l2_loss()->compare(end, batch.states.rbegin()->second).per_image.mean().item<double>();
}

PredictorSpec trained(const TrainOptions& options, TrainerResources resources = {}) {
  const SmallMixture denoiser;
  const auto group = ProcessGroup::alone();
  auto trainer = make_trainer(options, denoiser, *group, resources);
  while (!trainer.done()) trainer.iterate();
  return trainer.best_predictor();
}

TEST(NsStudent, BeginsWithTheImagesOfTheSolverThatItStartsFrom) {
  const SmallMixture denoiser;
  const auto group = ProcessGroup::alone();
  for (const auto& [init, kind] : kSolverNames) {
    for (const bool afs : {false, true}) {
      auto options = ns_options();
      options.init = init;
      options.afs = afs ? Afs::kAnalytical : Afs::kNo;
      auto trainer = make_trainer(options, denoiser, *group);
      const auto student = trainer.preview(4).first;
      SolverOptions solver;
      solver.kind = kind;
      solver.afs = afs ? Afs::kAnalytical : Afs::kNo;
      const auto times = make_time_steps({ScheduleKind::kTimeUniform, 1, 0.002, 80}, 5);
      const auto batch = teacher_of(options, denoiser)->batch(0, 4);
      const auto expected = execute(make_plan(solver, times), denoiser, batch.condition, batch.start);
      EXPECT_LT((student - expected).abs().max().item<double>(), 2e-5) << init;  // float32 states, 80 at the start
      EXPECT_EQ(student_nfe(trainer.predictor()), make_plan(solver, times).nfe()) << init;
    }
  }
}

TEST(NsStudent, LearnsFromEveryStartAndIsNeverWorse) {
  for (const char* init : {"dpmpp", "ipndm", "heun"}) {
    for (const int num_points : {1, 2}) {
      auto options = ns_options();
      options.init = init;
      options.num_points = num_points;
      const double before = loss_of(options.initial_predictor(SmallMixture().facts()), options);
      EXPECT_LT(loss_of(trained(options), options), 0.95 * before) << init << ", " << num_points << " points";
    }
  }
}

TEST(Search, LearnsByForwardPassesWhatTheGradientTeaches) {
  for (const auto student : {StudentKind::kNs, StudentKind::kEpd}) {
    auto options = ns_options();
    options.student = student;
    options.objective = Objective::kEndToEnd;
    if (student == StudentKind::kEpd) options.init = "midpoint";
    const double by_gradient = loss_of(trained(options), options);
    options.search = true;
    const double by_search = loss_of(trained(options), options);
    EXPECT_LT(by_search, 1.1 * by_gradient);
    EXPECT_NE(by_search, by_gradient);
    options.search_directions = 6;
    const double before = loss_of(options.initial_predictor(SmallMixture().facts()), options);
    EXPECT_LT(loss_of(trained(options), options), 0.97 * before);
  }
}

TEST(Search, GivesTheSameBitsInPassesOfAnySize) {
  auto options = ns_options();
  options.total_kimg = 0.024;
  options.search = true;
  options.search_directions = 3;
  const auto whole = predictor_text(trained(options));
  TrainerResources by_threes;
  by_threes.batch_gpu = 3;
  EXPECT_EQ(predictor_text(trained(options, by_threes)), whole);
  options.seed = 1;
  EXPECT_NE(predictor_text(trained(options)), whole);
}

class Rewards : public ::testing::Test {
 protected:
  std::unique_ptr<Loss> loss_of(const std::string& body) {
    torch::jit::Module module("Reward");
    module.define("def forward(self, images: Tensor, texts: List[str]) -> Tensor:\n    " + body + "\n");
    module.save((folder_ / "reward.ts").string());
    return reward_loss(
        folder_ / "reward.ts", [](const at::Tensor& states) { return states; }, at::kCPU);
  }
  test::TemporaryFolder folder_;
};

TEST_F(Rewards, SeeWholePixelsAndTexts) {
  const auto loss = loss_of("return images.mean([1, 2, 3]) + torch.tensor([float(len(t)) for t in texts])");
  const auto images = at::tensor({0.0F, 1.0F}).view({2, 1, 1, 1}).expand({2, 3, 2, 2});
  const auto value = loss->value(images, {}, {"abc", ""});
  EXPECT_TRUE(at::equal(value, -at::tensor({128.0 + 3, 255.0})));
  EXPECT_THAT(test::error_of([&] { loss->compare(images, images); }), HasSubstr("--search"));
}

TEST_F(Rewards, ThatAreNoneAreRefusedByName) {
  const auto images = at::zeros({2, 3, 2, 2});
  const auto refusal = [&](const std::string& body) {
    return test::error_of([&] { loss_of(body)->value(images, {}, {"", ""}); });
  };
  EXPECT_THAT(refusal("return images.mean()"), HasSubstr("reward.ts gave a tensor of"));
  EXPECT_THAT(refusal("return images"), HasSubstr("for 2 images"));
  EXPECT_THAT(refusal("return images.view([7])"), HasSubstr("reward.ts failed"));
  write_file(folder_ / "text", "no module");
  EXPECT_THAT(test::error_of([&] { reward_loss(folder_ / "text", {}, at::kCPU); }), HasSubstr("text"));
}

TEST(Search, OptionsThatDoNotFitAreRefused) {
  auto options = ns_options();
  options.student = StudentKind::kEpd;
  options.search = true;
  options.objective = Objective::kPerStep;
  EXPECT_THROW(options.validated(), UsageError);
  TrainRun run;
  run.reward = "reward.ts";
  EXPECT_THAT(test::error_of([&] { run.validated(); }, 2), HasSubstr("reward: only with --search"));
}

TEST(MeanOfTheData, BeginsTheRunsOfEveryStudent) {
  const SmallMixture denoiser;
  const auto group = ProcessGroup::alone();
  struct MeanOfTheMixture : testing::NoConditions {
    Condition of(const std::vector<std::uint64_t>& seeds, const at::Tensor&) const override {
      Condition condition;
      condition.mean = at::full({static_cast<std::int64_t>(seeds.size()), 3, 2, 2}, 0.1);
      return condition;
    }
  };
  const auto with_mean = std::make_shared<MeanOfTheMixture>();
  for (const auto& [name, student] : kStudentNames) {
    auto options = ns_options();
    options.student = student;
    options.objective = Objective::kEndToEnd;
    options.afs = Afs::kMean;
    auto trainer = make_trainer(options, denoiser, *group, {}, with_mean);
    EXPECT_EQ(student_nfe(trainer.predictor()), student == StudentKind::kNs ? 3 : 7) << name;
    const auto before = trainer.predictor();
    EXPECT_GT(trainer.iterate().loss.back(), 0) << name;
    EXPECT_NE(predictor_text(trainer.predictor()), predictor_text(before)) << name;
    // At sigma_max the mixture shows its mean, so that the images are nearly those with the evaluation.
    auto evaluated = options;
    evaluated.afs = Afs::kNo;
    auto full = make_trainer(evaluated, denoiser, *group, {}, with_mean);
    auto fresh = make_trainer(options, denoiser, *group, {}, with_mean);
    EXPECT_LT((full.preview(4).first - fresh.preview(4).first).abs().max().item<double>(), 0.02) << name;
  }
}

TEST(NsStudent, StartsFromAPredictor) {
  auto options = ns_options();
  options.num_points = 1;
  const auto first = trained(options);
  const auto path = std::filesystem::path(::testing::TempDir()) / "ns-student-start.json";
  write_file(path, predictor_text(first));
  options.init = path.string();
  options.num_points = 2;
  const auto start = options.initial_predictor(SmallMixture().facts());
  EXPECT_EQ(start.num_steps, 5);
  EXPECT_EQ(start.num_points, 2);
  EXPECT_EQ(start.plan()->stages[3].size(), 2U);
  EXPECT_EQ(loss_of(start, options), loss_of(first, options));
  auto epd = options;
  epd.student = StudentKind::kEpd;
  epd.init = "normal";
  epd.num_steps = 3;
  epd.afs = Afs::kAnalytical;
  const auto points = epd.initial_predictor(SmallMixture().facts());
  write_file(path, predictor_text(points));
  options.num_points = 1;
  const auto from_epd = options.initial_predictor(SmallMixture().facts());
  EXPECT_EQ(from_epd.num_steps, 5);  // 3 stages after the analytical first
  EXPECT_EQ(from_epd.afs, Afs::kAnalytical);
  EXPECT_NEAR(loss_of(from_epd, options) / loss_of(points, options), 1, 1e-3);
}

TEST(NsStudent, PassesMemoryAndResumingChangeNoBit) {
  auto options = ns_options();
  options.total_kimg = 0.032;
  const auto expected = predictor_text(trained(options));
  for (const auto adjoint : {AdjointMemory::kRecompute, AdjointMemory::kKeep}) {
    TrainerResources resources;
    resources.batch_gpu = 3;
    resources.adjoint = adjoint;
    EXPECT_EQ(predictor_text(trained(options, resources)), expected);
  }
  const SmallMixture denoiser;
  const auto group = ProcessGroup::alone();
  auto first = make_trainer(options, denoiser, *group), second = make_trainer(options, denoiser, *group);
  first.iterate();
  second.restore(first.state());
  while (!second.done()) second.iterate();
  EXPECT_EQ(predictor_text(second.predictor()), expected);
}

std::vector<Dual> learning(const std::vector<double>& raw) {
  std::vector<Dual> result;
  for (std::size_t i = 0; i < raw.size(); ++i) result.push_back(Dual::parameter(raw[i], i, raw.size()));
  return result;
}

TEST(NsStudent, GradientsOfItsLossAreSlopesInFloat64) {
  const SmallMixture denoiser;
  auto options = ns_options();
  const auto plan = *options.initial_predictor(denoiser.facts()).plan();
  std::vector<double> raw;
  for (std::size_t i = 0; i < num_parameters(plan); ++i) raw.push_back(2 * std::sin(3.0 * (i + 1)));
  const auto start = 80 * at::randn({3, 3, 2, 2}, at::kDouble), target = at::randn({3, 3, 2, 2}, at::kDouble);
  const auto loss_at = [&](const std::vector<double>& at) {
    return l2_loss()->compare(execute(write_plan(with_parameters(plan, options.rates, at)), denoiser, {}, start),
                              target);
  };
  const auto dual = write_plan(with_parameters(plan, options.rates, learning(raw)));
  epd::Run<Dual> run(denoiser, {}, start, KeepForAdjoint::kStates);
  run.advance(dual);
  const auto loss = l2_loss()->compare(run[dual.grid.back()], target);
  const auto gradient = parameter_gradients(dual, run, {{dual.grid.back(), loss.gradient}}, raw.size()).sum(0);
  constexpr double kStep = 1e-4;
  for (std::size_t p = 0; p < raw.size(); ++p) {
    auto above = raw, below = raw;
    above[p] += kStep;
    below[p] -= kStep;
    const double slope = ((loss_at(above).per_image - loss_at(below).per_image).sum() / (2 * kStep)).item<double>();
    EXPECT_NEAR(gradient[static_cast<std::int64_t>(p)].item<double>(), slope, 1e-6 * std::max(1.0, std::abs(slope)));
  }
}

TrainOptions diverging_options() {
  auto options = ns_options();
  options.rates = {.weights = 3, .times = 0, .sigmas = 0};
  options.coslr = false;
  options.total_kimg = 0.16;
  options.val_images = 16;
  options.val_every = 2;
  return options;
}

TEST(Validation, KeepsTheBestPredictorTheStartAmongThem) {
  const auto options = diverging_options();
  EXPECT_EQ(predictor_text(trained(options)), predictor_text(options.initial_predictor(SmallMixture().facts())));
  auto learning = ns_options();
  learning.val_images = 16;
  learning.total_kimg = 0.08;
  const double before = loss_of(learning.initial_predictor(SmallMixture().facts()), learning);
  EXPECT_LT(loss_of(trained(learning), learning), before);
}

TEST(Validation, EndsTheTrainingWhenItHasLostItsPatience) {
  auto options = diverging_options();
  options.patience = 3;
  const SmallMixture denoiser;
  const auto group = ProcessGroup::alone();
  auto trainer = make_trainer(options, denoiser, *group);
  while (!trainer.done()) trainer.iterate();
  EXPECT_EQ(trainer.iteration(), 6);  // the start was best, and three validations two iterations apart were not
  EXPECT_EQ(trainer.num_iterations(), 20);
}

TEST(Validation, SurvivesAResumeAndDoesNotDependOnPasses) {
  auto options = ns_options();
  options.total_kimg = 0.032;
  options.val_images = 7;
  options.val_every = 1;
  const SmallMixture denoiser;
  const auto group = ProcessGroup::alone();
  auto whole = make_trainer(options, denoiser, *group);
  while (!whole.done()) whole.iterate();
  TrainerResources resources;
  resources.batch_gpu = 3;
  auto first = make_trainer(options, denoiser, *group), second = make_trainer(options, denoiser, *group, resources);
  first.iterate();
  second.restore(first.state());
  while (!second.done()) second.iterate();
  EXPECT_EQ(second.state(), whole.state());
  ASSERT_TRUE(whole.state().best);
}

TEST(LossOfTheEnd, TakesInItsFeaturesWhenTheirTimeHasCome) {
  auto options = ns_options();
  options.batch = 4;
  options.total_kimg = 0.016;  // four iterations
  options.loss_metric = LossMetric::kL2AndFeatures;
  options.alpha_from = 0.5;
  const SmallMixture denoiser;
  const auto group = ProcessGroup::alone();
  int calls = 0;
  auto features = feature_loss(
      [&](const at::Tensor& images) {
        ++calls;
        return images.flatten(1);
      },
      [](const at::Tensor& states) { return states; }, 1, 4);
  auto trainer = make_trainer(options, denoiser, *group, {}, std::make_shared<testing::NoConditions>(),
                              sum_of_losses(l2_loss(), std::move(features)));
  std::vector<int> calls_after;
  while (!trainer.done()) {
    trainer.iterate();
    calls_after.push_back(calls);
  }
  EXPECT_THAT(calls_after, ::testing::ElementsAre(0, 0, 2, 4));
}

TEST(Validation, ShowsImagesThatTrainingDoesNot) {
  const auto options = ns_options();
  const SmallMixture denoiser;
  const auto start = [&](const TrainOptions& of) { return teacher_of(of, denoiser)->batch(0, 8).start; };
  EXPECT_FALSE(at::equal(start(options), start(options.for_validation())));
}

std::string refusal(const TrainOptions& options) {
  try {
    options.validated().initial_predictor(SmallMixture().facts());
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(NsStudent, RefusesWhatItCannotDo) {
  auto options = ns_options();
  EXPECT_EQ(refusal(options), "no error");
  options.objective = Objective::kPerStep;
  EXPECT_THAT(refusal(options), HasSubstr("objective: student ns learns its times"));
  options = ns_options();
  options.lr = 0.1;
  EXPECT_THAT(refusal(options), HasSubstr("use --lr_weights, --lr_times and --lr_sigmas"));
  options = ns_options();
  options.init = "dpmp";
  EXPECT_THAT(refusal(options),
              HasSubstr("init: expected euler, heun, dpm, dpmpp, ipndm, unipc or deis, or a predictor"));
  options = ns_options();
  options.patience = 2;
  EXPECT_THAT(refusal(options), HasSubstr("patience: needs --val_images"));
  options = ns_options();
  options.rates.times = -1;
  EXPECT_THAT(refusal(options), HasSubstr("lr_times"));
  options = ns_options();
  options.twin_shift = 0;
  EXPECT_THAT(refusal(options), HasSubstr("twin_shift"));
  options = ns_options();
  options.init = "euler";
  options.num_steps = 2;
  options.afs = Afs::kAnalytical;
  EXPECT_THAT(refusal(options), HasSubstr("no stages"));
}

}  // namespace
}  // namespace epd
