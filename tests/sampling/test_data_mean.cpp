#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "epd/core/error.h"
#include "epd/files/npz.h"
#include "epd/runtime/execute.h"
#include "epd/sampling/conditions.h"
#include "epd/sampling/method.h"
#include "epd/sampling/sampler.h"
#include "epd/sampling/seed_noise.h"
#include "support/mixture_denoiser.h"
#include "support/test_files.h"
#include "support/tiny_model.h"

// The mean of the data in place of the first evaluation.
namespace epd {
namespace {

namespace fs = std::filesystem;

class DataMean : public ::testing::Test {
 protected:
  DataMean() {
    setenv("EPD_CACHE", folder_.path().c_str(), 1);
    model_.facts.condition = ConditionKind::kLabel;
    model_.facts.label_dim = 4;
    testing::make_tiny_model(path(), model_);
  }
  ~DataMean() override { unsetenv("EPD_CACHE"); }

  fs::path path() const { return folder_ / "denoiser.ts"; }
  OpenedModel open(GuidanceOptions guidance = {}) const {
    return open_model({path(), at::kCPU, Precision::kAuto, guidance, {4, 0}});
  }
  at::Tensor mean_of_labels(const OpenedModel& model, const std::vector<std::int64_t>& labels) const {
    const std::shared_ptr<const Conditions> plain = make_conditions(model.model, path(), {});
    const std::vector<std::uint64_t> seeds(labels.size(), 0);
    return with_mean(plain, model)->of(seeds, at::tensor(labels, at::kLong)).mean;
  }
  std::vector<fs::path> kept() const {
    std::vector<fs::path> files;
    if (!fs::exists(folder_ / "means")) return files;
    for (const auto& entry : fs::directory_iterator(folder_ / "means")) files.push_back(entry.path());
    return files;
  }

  test::TemporaryFolder folder_;
  testing::TinyModelOptions model_;
};

TEST_F(DataMean, IsWhatTheDenoiserShowsAtTheHighestNoiseByLabel) {
  const auto model = open();
  const auto means = mean_of_labels(model, {2, 0, 2});
  ASSERT_EQ(means.sizes(), (std::vector<std::int64_t>{3, 3, 8, 8}));
  EXPECT_TRUE(at::equal(means[0], means[2]));
  EXPECT_FALSE(at::equal(means[0], means[1]));
  // Against many other latents.
  std::vector<std::uint64_t> seeds(64);
  for (std::size_t i = 0; i < seeds.size(); ++i) seeds[i] = i;
  const auto x = start_state(seed_noise(seeds, model.facts(), at::kCPU).latents, 80);
  const auto condition = label_condition(at::full({64}, 2, at::kLong), model.facts());
  const auto shown = model.denoiser->forward(x, at::full({64}, 80.0, at::kFloat), 1, condition);
  const double spread = shown.std(0).max().item<double>();
  EXPECT_LT((shown.mean(0) - means[0]).abs().max().item<double>(), spread);
}

TEST_F(DataMean, FollowsTheGuidance) {
  const auto plain = mean_of_labels(open(), {1});
  const auto guided = mean_of_labels(open({GuidanceKind::kClassifierFree, 4, false}), {1});
  const auto none = mean_of_labels(open({GuidanceKind::kClassifierFree, 0, false}), {1});
  EXPECT_LT((none + 4 * (plain - none) - guided).abs().max().item<double>(), 1e-4);
  EXPECT_EQ(kept().size(), 3U);
}

TEST_F(DataMean, IsKeptUnderTheModelsIdentity) {
  const auto model = open();
  const auto first = mean_of_labels(model, {3});
  ASSERT_EQ(kept().size(), 1U);
  EXPECT_EQ(kept()[0].filename(), model.identity + ".npz");
  EXPECT_TRUE(at::equal(mean_of_labels(open(), {3}), first));
  write_file(kept()[0], "damaged");
  EXPECT_TRUE(at::equal(mean_of_labels(open(), {3}), first));
}

TEST_F(DataMean, DoesNotNeedACacheThatCanBeWritten) {
  const auto first = mean_of_labels(open(), {3});
  write_file(folder_ / "file", "in the way");
  setenv("EPD_CACHE", (folder_ / "file").c_str(), 1);
  EXPECT_TRUE(at::equal(mean_of_labels(open(), {3}), first));
}

TEST_F(DataMean, StandsForTheFirstEvaluationOfEverySolver) {
  const auto model = open();
  for (const auto& [name, kind] : kSolverNames) {
    MethodOptions options;
    options.solver = kind;
    options.num_steps = 4;
    options.afs = Afs::kMean;
    const auto method = make_method(options, std::nullopt, model.facts());
    EXPECT_EQ(method.nfe(), 3 * info_of(kind).evaluations - 1) << name;
    const std::shared_ptr<const Conditions> conditions = make_conditions(model.model, path(), {});
    const auto drawn = Sampler(model, conditions, method.plan, method.times[0], {}).draw({1, 2});
    const auto [latents, labels, streams] = seed_noise({1, 2}, model.facts(), at::kCPU);
    auto condition = label_condition(labels, model.facts());
    condition.mean = mean_of_labels(model, {labels[0].item<std::int64_t>(), labels[1].item<std::int64_t>()});
    const auto expected = execute(method.plan, *model.denoiser, condition, start_state(latents, method.times[0]));
    EXPECT_TRUE(at::equal(drawn.images, expected)) << name;
  }
}

TEST(PlanWithMean, WithoutAMeanIsRefused) {
  PlanBuilder<double> plan;
  plan.grid_point(0.5 * plan.start() + plan.mean());
  const testing::TensorMixture denoiser;
  const auto start = at::ones({2, 1, 1, 1});
  EXPECT_THROW(execute(plan.plan(), denoiser, {}, start), Error);
  Condition condition;
  condition.mean = at::full({2, 1, 1, 1}, 3.0);
  EXPECT_EQ(execute(plan.plan(), denoiser, condition, start)[1].item<double>(), 3.5);
}

}  // namespace
}  // namespace epd
