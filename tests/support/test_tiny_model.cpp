#include <gtest/gtest.h>

#include <filesystem>

#include "epd/denoiser/torchscript.h"
#include "support/tiny_model.h"

namespace epd::testing {
namespace {

namespace fs = std::filesystem;

class TinyModel : public ::testing::Test {
 protected:
  void SetUp() override { fs::create_directories(folder_); }
  void TearDown() override { fs::remove_all(folder_); }

  TorchScriptModel made(const TinyModelOptions& options) {
    make_tiny_model(folder_ / "denoiser.ts", options);
    return TorchScriptModel(folder_ / "denoiser.ts", at::kCPU, Precision::kAuto);
  }

  fs::path folder_ = fs::temp_directory_path() / text("epd-tiny-model-", ::getpid());
};

TEST_F(TinyModel, KeepsTheContractForEveryKindOfCondition) {
  TinyModelOptions options;
  EXPECT_NO_THROW(made(options));
  options.facts.condition = ConditionKind::kLabel;
  options.facts.label_dim = 4;
  EXPECT_NO_THROW(made(options));
  options.facts.label_format = LabelFormat::kIndex;
  options.facts.classifier = true;
  EXPECT_NO_THROW(made(options));
  options.facts = tiny_facts();
  options.facts.condition = ConditionKind::kText;
  options.facts.text = TextFacts{77, 16};
  EXPECT_NO_THROW(made(options));
}

TEST_F(TinyModel, DependsOnItsLabelAndItsNoiseLevel) {
  TinyModelOptions options;
  options.facts.condition = ConditionKind::kLabel;
  options.facts.label_dim = 4;
  const auto model = made(options);
  const auto x = at::randn({2, 3, 8, 8}), sigma = at::full({2}, 3.0);
  const auto labels = [](std::int64_t label) { return at::one_hot(at::full({2}, label, at::kLong), 4).to(at::kFloat); };
  EXPECT_FALSE(at::allclose(model.forward(x, sigma, labels(1)), model.forward(x, sigma, labels(2))));
  EXPECT_FALSE(at::allclose(model.forward(x, sigma, labels(1)), model.forward(x, sigma * 2, labels(1))));
}

TEST_F(TinyModel, DecodesEncodesAndClassifiesWhereItsFactsSaySo) {
  TinyModelOptions options;
  options.facts.latent = LatentFacts{16, 3};
  options.facts.channels = 4;
  options.facts.label_dim = 5;
  options.facts.classifier = true;
  options.facts.text = TextFacts{77, 16};
  options.facts.condition = ConditionKind::kText;
  const auto model = made(options);
  EXPECT_EQ(model.decode(at::randn({2, 4, 8, 8})).sizes(), (std::vector<std::int64_t>{2, 3, 16, 16}));
  EXPECT_EQ(model.encode_text(at::ones({2, 77}, at::kLong)).sizes(), (std::vector<std::int64_t>{2, 77, 16}));
  const auto log_prob = model.log_prob(at::randn({2, 4, 8, 8}), at::ones({2}), at::ones({2}, at::kLong));
  EXPECT_EQ(log_prob.sizes(), (std::vector<std::int64_t>{2}));
  EXPECT_TRUE((log_prob < 0).all().item<bool>());
}

TEST_F(TinyModel, TheSameSeedMakesTheSameWeights) {
  const auto x = at::randn({2, 3, 8, 8}), sigma = at::ones({2});
  TinyModelOptions options;
  const auto first = made(options).forward(x, sigma, {});
  EXPECT_TRUE(at::equal(first, made(options).forward(x, sigma, {})));
  options.seed = 2;
  EXPECT_FALSE(at::equal(first, made(options).forward(x, sigma, {})));
}

}  // namespace
}  // namespace epd::testing
