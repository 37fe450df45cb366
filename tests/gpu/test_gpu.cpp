#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <numeric>

#include "epd/assets/paths.h"
#include "epd/documents/predictor_json.h"
#include "epd/metrics/detector.h"
#include "epd/sampling/sampler.h"
#include "epd/solver/make_plan.h"

namespace epd {
namespace {

/// The demo model and its predictor on this machine's first GPU, against the CPU. Skipped where there is none.
class Gpu : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!at::hasCUDA()) GTEST_SKIP() << "this machine has no GPU that LibTorch can use";
  }

  OpenedModel open(at::Device device, Precision precision = Precision::kFloat32) const {
    return open_model({folder_ / "denoiser.ts", device, precision, {}, {.chunk = 16}});
  }

  at::Tensor draw(const OpenedModel& model, const std::vector<std::uint64_t>& seeds) const {
    const std::shared_ptr conditions = make_conditions(model.model, folder_, {});
    const auto t = predictor_.time_steps();
    return Sampler(model, conditions, make_plan(predictor_, t), t[0], {}).draw(seeds).images.cpu();
  }

  static std::vector<std::uint64_t> seeds(std::size_t count) {
    std::vector<std::uint64_t> result(count);
    std::iota(result.begin(), result.end(), 0);
    return result;
  }

  const std::filesystem::path folder_ = project_dir() / "models/demo";
  const PredictorSpec predictor_ = read_predictor(folder_ / "predictor.json");
  const at::Device gpu_{at::kCUDA, 0};
};

double rms(const at::Tensor& a, const at::Tensor& b) { return (a - b).square().mean().sqrt().item<double>(); }

TEST_F(Gpu, DrawsTheImagesOfTheCpuInEveryPrecision) {
  const auto expected = draw(open(at::kCPU), seeds(16));
  const auto float32 = draw(open(gpu_), seeds(16));
  EXPECT_LT((float32 - expected).abs().max().item<double>(), 1e-4);
  EXPECT_LT(rms(draw(open(gpu_, Precision::kTf32), seeds(16)), expected), 5e-3);
  EXPECT_LT(rms(draw(open(gpu_, Precision::kFloat16), seeds(16)), expected), 5e-3);
  EXPECT_LT(rms(draw(open(gpu_, Precision::kBFloat16), seeds(16)), expected), 2e-2);
}

TEST_F(Gpu, DrawsTheSameBitsAgainAndInAnyBatch) {
  for (const auto precision : {Precision::kFloat32, Precision::kTf32, Precision::kFloat16, Precision::kBFloat16}) {
    const auto model = open(gpu_, precision);
    const auto first = draw(model, seeds(40));
    EXPECT_TRUE(at::equal(draw(model, seeds(40)), first));
    EXPECT_TRUE(at::equal(draw(model, seeds(7)), first.slice(0, 0, 7)));
    EXPECT_TRUE(at::equal(draw(open(gpu_, precision), seeds(40)), first)) << "a model that was opened again";
  }
}

TEST_F(Gpu, GradientsAreThoseOfTheCpuAndTheSameAgain) {
  const auto x = at::randn({2 * 20, 3, 32, 32}, at::kFloat) * 2;
  const auto sigma = at::full({2 * 20}, 2.0);
  const auto labels = at::eye(8, at::kFloat).repeat({3, 1}).slice(0, 0, 20);
  const auto gradients = [&](at::Device device) {
    Condition condition;
    condition.value = labels.to(device);
    const auto at_once = open(device).denoiser->differentiate(x.to(device), sigma.to(device), 2, condition);
    return at_once.pullback(at::ones_like(x, device)).x.cpu();
  };
  const auto expected = gradients(at::kCPU), first = gradients(gpu_);
  EXPECT_LT(rms(first, expected), 1e-4 * rms(expected, at::zeros({1})));  // 1.8e-5 on an H100
  EXPECT_TRUE(at::equal(gradients(gpu_), first));
}

TEST_F(Gpu, FeaturesAreThoseOfTheCpu) {
  const auto images = at::randint(256, {24, 3, 32, 32}, at::kByte);
  const auto features = [&](at::Device device) {
    return Detector(folder_ / "features.ts", {.device = device}).features(images).cpu();
  };
  const auto expected = features(at::kCPU);
  EXPECT_LT(rms(features(gpu_), expected), 1e-5 * rms(expected, at::zeros({1})));
}

}  // namespace
}  // namespace epd
