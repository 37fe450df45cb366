#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <utility>

#include "distill/small_mixture.h"
#include "epd/core/interrupt.h"
#include "epd/documents/predictor_json.h"
#include "support/tiny_model.h"

namespace epd {
namespace {

using testing::make_trainer;
using testing::SmallMixture;
using testing::teacher_of;

/// Answers so many forwards, then is interrupted.
class Interruptible : public SmallMixture {
 public:
  at::Tensor evaluate(const at::Tensor& x, const at::Tensor& sigma, std::int64_t num_points,
                      const Condition& condition) const override {
    if (left-- == 0) throw Interrupted(15);
    return SmallMixture::evaluate(x, sigma, num_points, condition);
  }
  mutable std::int64_t left = -1;
};

TrainOptions small_options() {
  TrainOptions options;
  options.dataset_name = "mixture";
  options.num_steps = 3;
  options.objective = Objective::kPerStep;
  options.num_inserted = 1;
  options.afs = Afs::kAnalytical;
  options.batch = 5;
  options.total_kimg = 0.02;
  options.seed = 7;
  return options;
}

std::vector<double> trained(const TrainOptions& options, TrainerResources resources) {
  const SmallMixture denoiser;
  const auto group = ProcessGroup::alone();
  auto trainer = make_trainer(options, denoiser, *group, resources);
  while (!trainer.done()) trainer.iterate();
  return trainer.predictor().parameters().raw;
}

TEST(Trainer, PassesAndMemoryChangeNoBit) {
  auto options = small_options();
  const auto expected = trained(options, {});
  for (const std::int64_t batch_gpu : {1, 2, 3, 5}) {
    for (const auto adjoint : {AdjointMemory::kRecompute, AdjointMemory::kKeep}) {
      TrainerResources resources;
      resources.batch_gpu = batch_gpu;
      resources.adjoint = adjoint;
      EXPECT_EQ(trained(options, resources), expected) << batch_gpu;
    }
  }
  options.seed = 8;
  EXPECT_NE(trained(options, {}), expected);
}

TEST(Trainer, AnIterationThatWasInterruptedNeverHappened) {
  const Interruptible denoiser;
  const auto group = ProcessGroup::alone();
  auto trainer = make_trainer(small_options(), denoiser, *group);
  trainer.iterate();
  const TrainingState before = trainer.state();
  // By then the first step has moved the parameters: 8 steps' forwards of the teacher, and the student's second step.
  int forwards = denoiser.forwards;
  trainer.iterate();
  forwards = denoiser.forwards - forwards;
  trainer.restore(before);
  denoiser.left = forwards - 1;
  EXPECT_THROW(trainer.iterate(), Interrupted);
  EXPECT_NE(trainer.predictor().parameters().raw, before.parameters);
  EXPECT_EQ(trainer.state(), before);
}

TEST(Trainer, GoesOnFromItsStateToTheSameBits) {
  const auto options = small_options();
  const auto expected = trained(options, {});
  const SmallMixture denoiser;
  const auto group = ProcessGroup::alone();
  auto first = make_trainer(options, denoiser, *group);
  first.iterate();
  auto second = make_trainer(options, denoiser, *group);
  second.restore(first.state());
  EXPECT_EQ(second.iteration(), 1);
  while (!second.done()) second.iterate();
  EXPECT_EQ(second.predictor().parameters().raw, expected);
}

TEST(Trainer, StopsAtALossThatIsNoNumberAndNamesTheFirstImageThatHasIt) {
  class Broken : public SmallMixture {
    at::Tensor evaluate(const at::Tensor& x, const at::Tensor&, std::int64_t num_points,
                        const Condition&) const override {
      auto denoised = 0.5 * x;
      denoised.unflatten(0, {num_points, -1}).slice(1, 1).fill_(std::numeric_limits<double>::quiet_NaN());
      return denoised;
    }
  };
  const Broken denoiser;
  const auto group = ProcessGroup::alone();
  auto trainer = make_trainer(small_options(), denoiser, *group);
  try {
    trainer.iterate();
    FAIL() << "nothing was thrown";
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), ::testing::HasSubstr("the loss of step 0 in iteration 0 is"));
    const auto seed = training_seed(small_options().seed, 1);
    EXPECT_THAT(e.what(), ::testing::HasSubstr(text("(image 1, seed ", seed, ")")));
  }
}

TEST(FeatureLoss, ShowsItsNetworkAlwaysAsManyImages) {
  std::set<std::int64_t> sizes;
  const FeatureFunction features = [&](const at::Tensor& images) {
    sizes.insert(images.size(0));
    return images.flatten(1).square() / 255;
  };
  const auto identity = [](const at::Tensor& states) { return states; };
  const auto loss = feature_loss(features, identity, 10, /*chunk=*/4);
  const auto student = at::randn({6, 3, 2, 2}, at::kDouble) / 4, teacher = at::randn({6, 3, 2, 2}, at::kDouble) / 4;
  const auto all = loss->compare(student, teacher);
  ASSERT_EQ(all.per_image.sizes(), (std::vector<std::int64_t>{6}));
  for (std::int64_t i = 0; i < 6; ++i) {
    const auto one = loss->compare(student.narrow(0, i, 1), teacher.narrow(0, i, 1));
    EXPECT_TRUE(at::equal(one.per_image[0], all.per_image[i]));
    EXPECT_TRUE(at::equal(one.gradient[0], all.gradient[i]));
  }
  EXPECT_EQ(sizes, (std::set<std::int64_t>{4}));
}

TEST(FeatureLoss, IsAlphaTimesTheStatesSizeTimesTheMeanSquare) {
  const FeatureFunction features = [](const at::Tensor& images) { return images.flatten(1).narrow(1, 0, 2); };
  const auto loss = feature_loss(
      features, [](const at::Tensor& states) { return states; }, 10, 1);
  auto student = at::zeros({1, 3, 1, 1}, at::kDouble);
  student[0][0] = 0.1;  // 12.75 grey levels away, of which there are two features
  student[0][2] = 9;    // seen by no feature
  const auto value = loss->compare(student, at::zeros_like(student));
  EXPECT_NEAR(value.per_image.item<double>(), 10 * 3 * 12.75 * 12.75 / 2, 1e-9);
  EXPECT_NEAR(value.gradient[0][0].item<double>(), 10 * 3 * 12.75 * 127.5, 1e-9);
  EXPECT_EQ(value.gradient[0][2].item<double>(), 0);
}

TEST(SumOfLosses, AddsValuesAndGradients) {
  const FeatureFunction features = [](const at::Tensor& images) { return images.flatten(1).square() / 255; };
  const auto identity = [](const at::Tensor& states) { return states; };
  const auto student = at::randn({3, 3, 2, 2}, at::kDouble) / 4, teacher = at::randn({3, 3, 2, 2}, at::kDouble) / 4;
  const auto sum = sum_of_losses(l2_loss(), feature_loss(features, identity, 0.3, 2))->compare(student, teacher);
  const auto by_features = feature_loss(features, identity, 0.3, 2)->compare(student, teacher);
  const auto gap = student - teacher;
  EXPECT_TRUE(at::allclose(sum.per_image, gap.square().flatten(1).sum(1) + by_features.per_image, 1e-13, 0));
  EXPECT_TRUE(at::allclose(sum.gradient, 2 * gap + by_features.gradient, 1e-13, 0));
}

TEST(Teacher, ComputesACachedTrajectoryOnceAndShufflesEveryPass) {
  auto options = small_options();
  options.teacher_cache = 10;  // two iterations a pass
  const SmallMixture denoiser;
  const auto teacher = teacher_of(options, denoiser);
  const auto pass = [&](std::int64_t first) {
    return at::cat({teacher->batch(5 * first, 5).start, teacher->batch(5 * (first + 1), 5).start});
  };
  const auto first = pass(0);
  const int forwards = denoiser.forwards;
  const auto second = pass(2);
  EXPECT_EQ(denoiser.forwards, forwards);
  EXPECT_FALSE(at::equal(first, second));
  EXPECT_TRUE(at::equal(std::get<0>(first.flatten().sort()), std::get<0>(second.flatten().sort())));
}

TEST(Teacher, PartsOfABatchAreThatBatch) {
  for (const std::int64_t cache : {0, 7}) {
    auto options = small_options();
    options.teacher_cache = cache;
    const SmallMixture denoiser;
    const auto whole = teacher_of(options, denoiser)->batch(15, 5);
    const auto parts = teacher_of(options, denoiser);
    ASSERT_EQ(whole.states.size(), 2U);
    for (const auto& [first, count] : {std::pair{3, 2}, std::pair{0, 3}}) {
      const auto part = parts->batch(15 + first, count);
      EXPECT_TRUE(at::equal(part.start, whole.start.narrow(0, first, count)));
      EXPECT_TRUE(at::equal(part.states.at(1), whole.states.at(1).narrow(0, first, count)));
    }
  }
}

TEST(Teacher, TrainingSeedsLieAboveThoseOfSampling) {
  std::set<std::uint64_t> seeds;
  for (std::uint64_t number = 0; number < 1000; ++number) seeds.insert(training_seed(3, number));
  EXPECT_GE(seeds.size(), 999U);
  EXPECT_GE(*seeds.begin(), std::uint64_t{1} << 31);
  EXPECT_LT(*seeds.rbegin(), std::uint64_t{1} << 32);
}

TEST(TrainOptions, TheCosineFallsFromTheLearningRateToAHundredth) {
  TrainOptions options;
  options.total_kimg = 10;
  options.batch = 128;
  EXPECT_EQ(options.num_iterations(), 79);
  EXPECT_EQ(options.learning_rate(40), 0.2);
  options.coslr = true;
  EXPECT_DOUBLE_EQ(options.learning_rate(0), 0.2);
  EXPECT_NEAR(options.learning_rate(79), 0.01, 1e-12);
  EXPECT_NEAR(options.learning_rate(20), 0.01 + 0.095 * (1 + std::cos(M_PI * 20 / 79)), 1e-12);
}

TEST(TrainOptions, AutoIsEndToEndForEpdOnPixelsWithFewSteps) {
  TrainOptions options;
  options.dataset_name = "cifar10";
  EXPECT_EQ(options.resolved_objective(), Objective::kEndToEnd);
  options.num_steps = 6;
  EXPECT_EQ(options.resolved_objective(), Objective::kPerStep);
  options.num_steps = 5;
  options.student = StudentKind::kIpndm;
  EXPECT_EQ(options.resolved_objective(), Objective::kPerStep);
  options.student = StudentKind::kEpd;
  options.dataset_name = "lsun_bedroom_ldm";
  EXPECT_EQ(options.resolved_objective(), Objective::kPerStep);
}

TEST(TrainOptions, TheTeachersGridHoldsTheStudentsToTheBit) {
  const auto map = make_sigma_map(VpNoise{});
  for (const auto& [name, kind] : kScheduleNames) {
    auto facts = SmallMixture().facts();
    if (kind == ScheduleKind::kFlowMatch) facts.sigma_max = 1;
    for (const int num_inserted : {0, 1, 2, 6}) {
      auto options = small_options();
      options.schedule_kind = kind;
      options.num_steps = 7;
      options.num_inserted = num_inserted;
      const auto start = options.initial_predictor(facts);
      const auto student = start.time_steps(map.get()), teacher = options.teacher_grid(start, map.get());
      for (std::size_t i = 0; i < student.size(); ++i) {
        EXPECT_EQ(student[i], teacher[i * (num_inserted + 1)]) << name << ", " << num_inserted << " inserted";
      }
    }
  }
}

/// y ~ N(0, 0.5^2) as a flow model: D(x; s) = (1 - s) 0.5^2 x / v, v = (1 - s)^2 0.5^2 + s^2.
class GaussianFlow : public AutogradDenoiser {
 public:
  GaussianFlow() {
    facts_.dataset_name = "gaussian";
    facts_.resolution = 2;
    facts_.channels = 3;
    facts_.noise = FlowNoise{3};
    facts_.sigma_min = 1e-3;
    facts_.sigma_max = 1;
  }
  const ModelFacts& facts() const override { return facts_; }
  at::Tensor evaluate(const at::Tensor& x, const at::Tensor& sigma, std::int64_t, const Condition&) const override {
    const auto s = sigma.view({-1, 1, 1, 1}), of_data = (1 - s) * 0.25;
    return of_data * x / (of_data * (1 - s) + s * s);
  }

 private:
  ModelFacts facts_;
};

TEST(Trainer, TeachesStudentsOnTheTimesOfFlowModels) {
  const GaussianFlow denoiser;
  for (const auto student : {StudentKind::kEpd, StudentKind::kIpndm}) {
    auto options = small_options();
    options.student = student;
    options.schedule_kind = ScheduleKind::kFlowMatch;
    options.schedule_rho = 3;
    options.afs = Afs::kNo;
    options.objective = Objective::kEndToEnd;
    options.init = "midpoint";
    options.total_kimg = 0.8;
    const auto group = ProcessGroup::alone();
    auto trainer = make_trainer(options, denoiser, *group);
    const auto t = trainer.predictor().time_steps();
    EXPECT_EQ(t[0], 1);
    EXPECT_NEAR(t.values().back(), 3e-3 / 1.002, 1e-12);  // sigma_min, shifted
    const double before = trainer.iterate().loss.back();
    double after = before;
    while (!trainer.done()) after = trainer.iterate().loss.back();
    EXPECT_LT(after, 0.5 * before) << name_of(kStudentNames, student);
  }
}

TEST(TrainOptions, AFlowsScheduleHasTheModelsShiftUnlessAnotherIsGiven) {
  ModelFacts flow = testing::tiny_facts(), edm = testing::tiny_facts();
  flow.noise = FlowNoise{.shift = 3.5};
  flow.sigma_min = 0.001;
  flow.sigma_max = 1;
  for (const auto student : {StudentKind::kEpd, StudentKind::kNs}) {
    auto options = small_options();
    options.student = student;
    options.afs = Afs::kNo;
    options.schedule_rho.reset();
    options.schedule_kind.reset();
    EXPECT_EQ(options.initial_predictor(edm).schedule.kind, ScheduleKind::kPolynomial);
    EXPECT_EQ(options.initial_predictor(edm).schedule.rho, 7);
    EXPECT_EQ(options.initial_predictor(flow).schedule.kind, ScheduleKind::kFlowMatch);
    options.schedule_kind = ScheduleKind::kFlowMatch;
    const auto of_model = options.initial_predictor(flow);
    EXPECT_EQ(of_model.schedule.rho, 3.5);
    options.schedule_rho = 3.5;
    EXPECT_EQ(predictor_text(options.initial_predictor(flow)), predictor_text(of_model));
    options.schedule_rho = 2;
    EXPECT_EQ(options.initial_predictor(flow).schedule.rho, 2);
    EXPECT_NE(predictor_text(options.initial_predictor(flow)), predictor_text(of_model));
  }
}

TEST(TrainOptions, TheMidpointStartIsTheMidpointRule) {
  auto options = small_options();
  options.init = "midpoint";
  options.num_points = 1;
  const auto spec = options.initial_predictor(SmallMixture().facts());
  const auto table = epd_table(spec, spec.parameters().raw);
  const auto t = spec.time_steps();
  for (std::size_t n = 0; n < table.size(); ++n) {
    const double t_mid = std::pow(t[n + 1], table[n].r[0]) * std::pow(t[n], 1 - table[n].r[0]);
    EXPECT_NEAR(t_mid, (t[n] + t[n + 1]) / 2, 1e-9 * t[n]);
    EXPECT_DOUBLE_EQ(table[n].weight[0], 1);
    EXPECT_DOUBLE_EQ(table[n].scale_dir[0], 1);
    EXPECT_DOUBLE_EQ(table[n].scale_time[0], 1);
  }
}

TEST(TrainOptions, TheMidpointStartSpreadsItsPointsOverTheMiddle) {
  auto options = small_options();
  options.init = "midpoint";
  for (const int num_points : {2, 3, 4, 8}) {
    options.num_points = num_points;
    const auto spec = options.initial_predictor(SmallMixture().facts());
    const auto table = epd_table(spec, spec.parameters().raw);
    const auto t = spec.time_steps();
    for (std::size_t n = 0; n < table.size(); ++n) {
      std::vector<double> places;  // of the way from t_cur to t_next
      for (const double r : table[n].r) {
        places.push_back((std::pow(t[n + 1], r) * std::pow(t[n], 1 - r) - t[n]) / (t[n + 1] - t[n]));
      }
      EXPECT_NEAR(places.front(), 0.35, 1e-9);
      EXPECT_NEAR(places.back(), 0.65, 1e-9);
      EXPECT_TRUE(std::is_sorted(places.begin(), places.end()));
      EXPECT_NEAR(table[n].weight[0], 1.0 / num_points, 1e-15);
    }
  }
}

}  // namespace
}  // namespace epd
