#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/grad_mode.h>
#include <torch/csrc/autograd/variable.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "epd/denoiser/guidance.h"
#include "epd/denoiser/open_model.h"
#include "support/test_files.h"
#include "support/tiny_model.h"

namespace epd {
namespace {

using ::testing::HasSubstr;

/// A tiny class-conditional model with a classifier, and two images for it.
class Guidance : public ::testing::Test {
 protected:
  Guidance() {
    tiny_.facts.condition = ConditionKind::kLabel;
    tiny_.facts.label_dim = 4;
    tiny_.facts.classifier = true;
    const auto labels = at::tensor({1, 3}, at::kLong);
    condition_ = {at::one_hot(labels, 4).to(at::kFloat), at::zeros({2, 4}), labels};
  }

  GuidedDenoiser denoiser(GuidanceOptions options) {
    testing::make_tiny_model(folder_ / "denoiser.ts", tiny_);
    model_ = std::make_shared<const TorchScriptModel>(folder_ / "denoiser.ts", at::kCPU, Precision::kAuto);
    return GuidedDenoiser(model_, options);
  }
  at::Tensor guided(GuidanceOptions options) { return denoiser(options).forward(x_, sigma_, 1, condition_); }
  at::Tensor conditional() const { return model_->forward(x_, sigma_, condition_.value); }
  at::Tensor unconditional() const { return model_->forward(x_, sigma_, condition_.unconditional); }

  test::TemporaryFolder folder_;
  testing::TinyModelOptions tiny_;
  std::shared_ptr<const TorchScriptModel> model_;
  at::Generator generator_ = at::detail::createCPUGenerator(5);
  at::Tensor x_ = 3 * at::randn({2, 3, 8, 8}, generator_), sigma_ = at::tensor({3.0f, 0.4f});
  Condition condition_;
};

TEST_F(Guidance, NoneIsTheConditionalAndUncondTheUnconditionalPrediction) {
  const auto none = guided({GuidanceKind::kNone, 1, false});
  EXPECT_TRUE(at::equal(none, conditional()));
  const auto uncond = guided({GuidanceKind::kUnconditional, 1, false});
  EXPECT_TRUE(at::equal(uncond, unconditional()));
  EXPECT_FALSE(at::allclose(conditional(), unconditional()));
}

TEST_F(Guidance, ClassifierFreeGoesTheRateTimesTheWayFromTheUnconditional) {
  for (const double rate : {0.0, 1.0, 7.5}) {
    const auto result = guided({GuidanceKind::kClassifierFree, rate, false});
    const auto expected = unconditional() + rate * (conditional() - unconditional());
    EXPECT_TRUE(at::allclose(result, expected, 1e-5, 1e-5)) << rate;
  }
  EXPECT_EQ(denoiser({GuidanceKind::kClassifierFree, 7.5, false}).cost(), 2);
  EXPECT_EQ(denoiser({GuidanceKind::kNone, 1, false}).cost(), 1);
}

TEST_F(Guidance, ClassifierFreeLeavesChannelsThatAreNotGuidedConditional) {
  tiny_.facts.guided_channels = 2;
  const auto result = guided({GuidanceKind::kClassifierFree, 4, false});
  const auto expected = unconditional() + 4 * (conditional() - unconditional());
  EXPECT_TRUE(at::allclose(result.slice(1, 0, 2), expected.slice(1, 0, 2), 1e-5, 1e-5));
  EXPECT_TRUE(at::allclose(result.slice(1, 2), conditional().slice(1, 2), 1e-5, 1e-5));
}

TEST_F(Guidance, AutoguidanceGoesTheRateTimesTheWayFromTheWeakerNetwork) {
  tiny_.facts.guide = true;
  for (const double rate : {0.0, 1.0, 2.0}) {
    const auto result = guided({GuidanceKind::kAutoguidance, rate, false});
    const auto weak = model_->guide(x_, sigma_, condition_.value);
    EXPECT_TRUE(at::allclose(result, weak + rate * (conditional() - weak), 1e-5, 1e-5)) << rate;
    EXPECT_FALSE(at::allclose(weak, conditional()));
  }
  EXPECT_EQ(denoiser({GuidanceKind::kAutoguidance, 2, false}).cost(), 2);
}

TEST_F(Guidance, AutoguidanceNeedsASecondNetwork) {
  const auto error = test::error_of([&] { guided({GuidanceKind::kAutoguidance, 2, false}); });
  EXPECT_THAT(error, HasSubstr("guidance_type autoguidance: the model of tiny has no second network"));
}

TEST_F(Guidance, AClassifierAddsItsGradientTimesTheSquaredNoiseLevel) {
  const auto result = guided({GuidanceKind::kClassifier, 2.5, false});
  // The gradient by central differences of log p, one value at a time.
  const auto gap = (result - conditional()) / 2.5;
  for (const std::int64_t image : {0, 1}) {
    for (const std::int64_t place : {0, 77, 191}) {
      const double h = 0.05;
      auto up = x_.clone(), down = x_.clone();
      up.view({2, -1})[image][place] += h;
      down.view({2, -1})[image][place] -= h;
      const auto log_p = [&](const at::Tensor& x) {
        return model_->log_prob(x, sigma_, condition_.labels)[image].item<double>();
      };
      const double sigma = sigma_[image].item<double>();
      const double expected = sigma * sigma * (log_p(up) - log_p(down)) / (2 * h);
      EXPECT_NEAR(gap.view({2, -1})[image][place].item<double>(), expected, 2e-3 * std::abs(expected) + 1e-5);
    }
  }
}

TEST_F(Guidance, ClampComesAfterGuidance) {
  tiny_.facts.clamp = true;
  x_ = 3 * x_;
  const auto result = guided({GuidanceKind::kClassifierFree, 7.5, false});
  const auto unclamped = unconditional() + 7.5 * (conditional() - unconditional());
  EXPECT_GT(unclamped.abs().max().item<double>(), 1.5);
  EXPECT_TRUE(at::allclose(result, unclamped.clamp(-1, 1), 1e-5, 1e-5));
}

TEST_F(Guidance, ThresholdingDividesByTheQuantileOfAnImageWhereThatExceedsOne) {
  sigma_ = at::tensor({0.01f, 0.01f});
  x_[1] *= 0.01;
  const auto result = guided({GuidanceKind::kNone, 1, true});
  const auto plain = conditional();
  for (const std::int64_t image : {0, 1}) {
    const auto values = plain[image].flatten().to(at::kDouble).abs();
    std::vector<double> sorted(values.const_data_ptr<double>(), values.const_data_ptr<double>() + values.numel());
    std::ranges::sort(sorted);
    const double place = 0.995 * static_cast<double>(sorted.size() - 1);  // linear between neighbours, as NumPy's
    const auto below = static_cast<std::size_t>(place);
    const double quantile = sorted[below] + (place - std::floor(place)) * (sorted[below + 1] - sorted[below]);
    const double s = std::max(1.0, quantile);
    EXPECT_EQ(s > 1, image == 0);
    EXPECT_TRUE(at::allclose(result[image], plain[image].clamp(-s, s) / s, 1e-5, 1e-6)) << image;
  }
}

TEST_F(Guidance, EveryPointOfAnImageHasItsCondition) {
  for (const auto kind : {GuidanceKind::kNone, GuidanceKind::kClassifierFree, GuidanceKind::kClassifier}) {
    const auto guided = denoiser({kind, 2, false});
    const auto states = at::cat({x_, x_ + 1, x_ - 1}), sigmas = at::cat({sigma_, sigma_ * 2, sigma_ * 3});
    const auto all = guided.forward(states, sigmas, 3, condition_);
    for (std::int64_t k = 0; k < 3; ++k) {
      const auto one = guided.forward(states.narrow(0, 2 * k, 2), sigmas.narrow(0, 2 * k, 2), 1, condition_);
      EXPECT_TRUE(at::allclose(all.narrow(0, 2 * k, 2), one, 1e-5, 1e-5)) << "point " << k;
    }
  }
}

TEST_F(Guidance, ThePullbackKnowsTheNoiseLevel) {
  const auto guided = denoiser({GuidanceKind::kClassifierFree, 2, false});
  const auto direction = at::randn(x_.sizes(), generator_);
  const auto gradient = guided.differentiate(x_, sigma_, 1, condition_).pullback(direction).sigma;
  const auto projected = [&](const at::Tensor& sigma) {
    const auto product = guided.forward(x_, sigma, 1, condition_).to(at::kDouble) * direction.to(at::kDouble);
    return product.flatten(1).sum(1);
  };
  const double h = 1e-2;
  const auto expected = (projected(sigma_ * (1 + h)) - projected(sigma_ * (1 - h))) / (2 * h * sigma_.to(at::kDouble));
  EXPECT_TRUE(at::allclose(gradient.to(at::kDouble), expected, 5e-3, 5e-3)) << gradient << expected;
}

TEST_F(Guidance, PaddingAndPointsAtOnceChangeNoImageAndNoGradient) {
  const auto guided = std::make_shared<const GuidedDenoiser>(denoiser({GuidanceKind::kClassifierFree, 2, false}));
  const auto states = at::cat({x_, x_ + 1, x_ - 1}), sigmas = at::cat({sigma_, sigma_ * 2, sigma_ * 3});
  const auto direction = at::randn(states.sizes(), generator_);
  const auto whole = guided->differentiate(states, sigmas, 3, condition_);
  const auto expected = whole.pullback(direction);
  for (const std::int64_t points_at_once : {0, 1, 2}) {
    const ChunkedDenoiser chunked(guided, {5, points_at_once});
    EXPECT_TRUE(at::allclose(chunked.forward(states, sigmas, 3, condition_), whole.denoised, 1e-5, 1e-5));
    const auto gradients = chunked.differentiate(states, sigmas, 3, condition_).pullback(direction);
    EXPECT_TRUE(at::allclose(gradients.x, expected.x, 1e-4, 1e-5)) << points_at_once;
    EXPECT_TRUE(at::allclose(gradients.sigma, expected.sigma, 1e-4, 1e-3)) << points_at_once;
  }
}

TEST_F(Guidance, IsRefusedWhereTheModelCannot) {
  tiny_.facts.classifier = false;
  EXPECT_THAT(test::error_of([&] { denoiser({GuidanceKind::kClassifier, 1, false}); }), HasSubstr("classifier"));
  tiny_.facts.label_format = LabelFormat::kIndex;
  EXPECT_THAT(test::error_of([&] { denoiser({GuidanceKind::kClassifierFree, 1, false}); }), HasSubstr("cfg"));
}

}  // namespace
}  // namespace epd
