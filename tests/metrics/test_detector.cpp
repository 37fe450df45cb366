#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/script.h>

#include <algorithm>
#include <fstream>
#include <thread>

#include "epd/core/error.h"
#include "epd/distributed/process_group.h"
#include "epd/metrics/detector.h"
#include "epd/metrics/scorer.h"
#include "metrics/support.h"
#include "support/test_files.h"
#include "support/tiny_model.h"

namespace epd::test {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

at::Tensor random_images(std::int64_t count, std::int64_t size = 16) {
  return (random_normal({count, 3, size, size}, 1) * 50 + 128).clamp(0, 255).to(at::kByte);
}

class DetectorFile : public ::testing::Test {
 protected:
  DetectorFile() { testing::make_tiny_detector(path_); }

  std::string refusal(const std::filesystem::path& path) const {
    try {
      const Detector detector(path);
    } catch (const Error& e) {
      return e.what();
    }
    return "loaded";
  }
  std::string refusal_of(const std::string& forward) const {
    torch::jit::Module module("Broken");
    module.define(forward);
    const auto path = folder_ / "broken.ts";
    module.save(path.string());
    return refusal(path);
  }

  TemporaryFolder folder_;
  std::filesystem::path path_ = folder_ / "tiny.ts";
};

TEST_F(DetectorFile, FeaturesDoNotDependOnTheBatch) {
  const Detector detector(path_, {.chunk = 8});
  const auto images = random_images(21);
  const auto features = detector.features(images);
  EXPECT_EQ(features.sizes(), (at::IntArrayRef{21, detector.num_features()}));
  for (const std::int64_t i : {0, 7, 8, 20}) {
    EXPECT_TRUE(at::equal(detector.features(images.narrow(0, i, 1)), features.narrow(0, i, 1)));
  }
}

TEST_F(DetectorFile, ChunksOfLargeImagesHoldFewerUnlessTheirNumberIsGiven) {
  const Detector automatic(path_), given(path_, {.chunk = 8});
  for (const std::int64_t side : {16, 299, 512}) EXPECT_EQ(automatic.chunk_of(side, side), 32);
  EXPECT_EQ(automatic.chunk_of(1024, 2048), 8);
  EXPECT_EQ(automatic.chunk_of(13000, 13000), 1);
  EXPECT_EQ(given.chunk_of(13000, 13000), 8);
  // Alone or behind another chunk, a large image has the same features.
  const auto images = at::randint(256, {3, 3, 1 << 11, 3 << 10}).to(at::kByte);
  ASSERT_EQ(automatic.chunk_of(images.size(2), images.size(3)), 2);
  EXPECT_TRUE(at::equal(automatic.features(images).narrow(0, 2, 1), automatic.features(images.narrow(0, 2, 1))));
}

TEST_F(DetectorFile, GradientsFlowToFloatPictures) {
  const Detector detector(path_);
  const auto images = random_images(3).to(at::kFloat).requires_grad_();
  detector.features_of(images).sum().backward();
  EXPECT_GT(images.grad().abs().sum().item<double>(), 0);
  EXPECT_TRUE(at::allclose(detector.features_of(images).detach(), detector.features(random_images(3)), 1e-4, 1e-5));
}

TEST_F(DetectorFile, ScoringAloneChangesFeaturesByNoMoreThanRounding) {
  const auto images = random_images(5, 32);
  for (const auto& path : {path_, std::filesystem::path(EPD_SOURCE_DIR) / "models/demo/features.ts"}) {
    const Detector exact(path), fast(path, {.scoring_only = true});
    const auto expected = exact.features(images);
    const double largest = expected.abs().max().item<double>();
    EXPECT_LT((fast.features(images) - expected).abs().max().item<double>(), 1e-5 * largest);
    EXPECT_THROW(fast.features_of(images.to(at::kFloat)), Error);
  }
}

TEST_F(DetectorFile, EveryFormOfARectifiedConvolutionCanBeScored) {
  for (const std::string convolved :
       {"conv2d(x, self.w, self.b, stride=2, padding=[1, 1])", "conv2d(x, self.w, None, padding='same')",
        "conv2d(x, self.w, self.b, padding=[2, 0], dilation=[2, 1])", "conv2d(x.repeat(1, 2, 1, 1), self.w, groups=2)",
        "conv2d(x.double(), self.w.double())", "conv2d(x, x[:1, :, :3, :3])", "conv2d(x[0], self.w).unsqueeze(0)"}) {
    torch::jit::Module module("Convolved");
    module.register_parameter("w", random_normal({4, 3, 3, 3}, 2).to(at::kFloat), false);
    module.register_parameter("b", random_normal({4}, 3).to(at::kFloat), false);
    module.define("def forward(self, images):\n  x = images.float() / 255\n  return torch.relu(torch." + convolved +
                  ").mean([2, 3]).float()\n");
    module.save((folder_ / "convolved.ts").string());
    const Detector exact(folder_ / "convolved.ts"), fast(folder_ / "convolved.ts", {.scoring_only = true});
    const auto image = random_images(1, 20);
    EXPECT_TRUE(at::allclose(fast.features(image, false), exact.features(image, false), 1e-5, 1e-6)) << convolved;
  }
}

TEST_F(DetectorFile, KnowsItsNameAndHash) {
  const Detector detector(path_);
  EXPECT_EQ(detector.name(), "tiny");
  EXPECT_EQ(detector.sha256().size(), 64u);
  const Detector demo(std::string(EPD_SOURCE_DIR) + "/models/demo/features.ts");
  EXPECT_EQ(demo.name(), "demo");
  EXPECT_EQ(demo.num_features(), 64);
}

TEST_F(DetectorFile, WhatIsNoDetectorIsRefusedWithTheReason) {
  EXPECT_THAT(refusal(folder_ / "none.ts"), HasSubstr("no such file"));
  std::ofstream(folder_ / "text.ts") << "not a network";
  EXPECT_THAT(refusal(folder_ / "text.ts"), HasSubstr("cannot load the detector"));
  EXPECT_THAT(refusal_of("def forward(self, x: Tensor) -> Tensor:\n  return torch.flatten(x, 1)\n"),
              HasSubstr("should be float32"));
  EXPECT_THAT(refusal_of("def forward(self, x: Tensor) -> Tensor:\n  return x.float()\n"),
              HasSubstr("should be [1, F]"));
  EXPECT_THAT(refusal_of("def forward(self, x: Tensor) -> Tensor:\n  return torch.flatten(x.long().float(), 1)\n"),
              HasSubstr("differentiable"));
  EXPECT_THAT(refusal_of("def forward(self, x: Tensor, y: Tensor) -> Tensor:\n  return x + y\n"),
              HasSubstr("forward failed"));
}

TEST_F(DetectorFile, WrongPicturesAreRefused) {
  const Detector detector(path_);
  EXPECT_THROW(detector.features(random_images(2).to(at::kFloat)), Error);
  EXPECT_THROW(detector.features(random_images(2).narrow(1, 0, 1)), Error);
  EXPECT_THROW(detector.features_of(random_images(2)), Error);
}

TEST_F(DetectorFile, TheScorersBitsDoNotDependOnThePieces) {
  const auto detector = std::make_shared<const Detector>(path_, DetectorOptions{.chunk = 8});
  const auto images = random_images(29);
  const auto group = ProcessGroup::alone();
  const auto scored = [&](std::int64_t piece) {
    Scorer scorer(detector, /*keep_features=*/true);
    for (std::int64_t begin = 0; begin < 29; begin += piece) {
      scorer.add(images.narrow(0, begin, std::min(piece, 29 - begin)));
    }
    EXPECT_EQ(scorer.count(), 29);
    return scorer.collect(*group, "images");
  };
  const auto whole = scored(29);
  EXPECT_TRUE(at::equal(whole.features, detector->features(images)));
  for (const std::int64_t piece : {1, 5, 8, 12}) {
    const auto pieces = scored(piece);
    EXPECT_TRUE(at::equal(pieces.statistics.sigma, whole.statistics.sigma)) << piece;
    EXPECT_TRUE(at::equal(pieces.features, whole.features)) << piece;
  }
  EXPECT_EQ(whole.statistics.detector, "tiny");
  EXPECT_EQ(whole.statistics.source, "images");
}

TEST_F(DetectorFile, TheScorerTakesPicturesOfSeveralSizes) {
  const auto detector = std::make_shared<const Detector>(path_, DetectorOptions{.chunk = 4});
  Scorer scorer(detector, true);
  scorer.add(random_images(3, 16));
  scorer.add(random_images(2, 24));
  scorer.add(random_images(1, 16));
  const auto set = scorer.collect(*ProcessGroup::alone(), "mixed");
  EXPECT_EQ(set.statistics.count, 6);
  EXPECT_TRUE(at::allclose(set.features.narrow(0, 3, 2), detector->features(random_images(2, 24)), 1e-5, 1e-6));
}

/// Features are the sums of the rows, NaN for an image whose first value is 255.
void make_choosy_detector(const std::filesystem::path& path) {
  torch::jit::Module module("Choosy");
  module.define(
      "def forward(self, x: Tensor) -> Tensor:\n  y = torch.sum(x.float(), [1, 2])\n"
      "  bad = (x[:, 0, 0, 0] == 255).float().reshape([-1, 1])\n  return y / (1 - bad) * (1 - bad)\n");
  module.save(path.string());
}

TEST_F(DetectorFile, AnImageWhoseFeaturesAreNotFiniteIsNamedWithTheDetector) {
  make_choosy_detector(folder_ / "choosy.ts");
  const DetectorOptions options{.chunk = 4, .scoring_only = true};
  const auto detector = std::make_shared<const Detector>(folder_ / "choosy.ts", options);
  for (const std::int64_t bad : {0, 5, 10}) {
    auto images = random_images(11, 64).clamp(0, 254).to(at::kByte);
    images[bad][0][0][0] = 255;
    for (const std::int64_t piece : {1, 3, 11}) {
      Scorer scorer(detector, false, [](std::size_t i) { return text("seed ", 100 + i); });
      const auto message = error_of([&] {
        for (std::int64_t i = 0; i < 11; i += piece) scorer.add(images.narrow(0, i, std::min(piece, 11 - i)));
        scorer.collect(*ProcessGroup::alone(), "images");
      });
      EXPECT_THAT(message, AllOf(HasSubstr("detector choosy"), HasSubstr(text("seed ", 100 + bad)))) << message;
    }
  }
}

TEST_F(DetectorFile, EveryPublishedDetectorHasItsLimits) {
  EXPECT_NE(limits_of_detector("inception"), limits_of_detector("inception-pytorch"));
  EXPECT_THAT(limits_of_detector("demo"), HasSubstr("demo"));
  EXPECT_THAT(limits_of_detector("mine"), HasSubstr("not known"));
}

TEST(Decoders, ShareTheCoresUnlessTheirNumberIsAskedFor) {
  EXPECT_EQ(num_decoders(5, 2), 5);
  EXPECT_EQ(num_decoders(0, 1), std::clamp(static_cast<int>(std::thread::hardware_concurrency()), 1, 8));
  EXPECT_EQ(num_decoders(0, 100000), 1);
}

}  // namespace
}  // namespace epd::test
