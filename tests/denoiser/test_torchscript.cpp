#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/script.h>

#include <array>
#include <string>

#include "epd/denoiser/torchscript.h"
#include "epd/documents/model_facts_json.h"
#include "epd/files/atomic_file.h"
#include "support/test_files.h"
#include "support/tiny_model.h"

namespace epd {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class AModelFile : public ::testing::Test {
 protected:
  std::string path() const { return (folder_ / "denoiser.ts").string(); }
  TorchScriptModel load(Precision precision = Precision::kAuto) const {
    return TorchScriptModel(path(), at::kCPU, precision);
  }
  std::string refusal() const {
    return test::error_of([&] { load(); });
  }
  /// Saves a module with this one method and these facts.
  void save(const std::string& method, const ModelFacts& facts = testing::tiny_facts()) const {
    torch::jit::Module module("Foreign");
    module.define(method);
    module.save(path(), {{"facts.json", model_facts_text(facts)}});
  }

  test::TemporaryFolder folder_;
};

TEST_F(AModelFile, ThatIsMissingTextOrCutShortIsRefused) {
  EXPECT_THAT(refusal(), HasSubstr("denoiser.ts"));
  write_file(path(), "no model");
  EXPECT_THAT(refusal(), HasSubstr("denoiser.ts"));
  testing::make_tiny_model(path());
  const auto whole = read_file(path());
  for (const double part : {0.1, 0.5, 0.99}) {
    write_file(path(), whole.substr(0, static_cast<std::size_t>(part * static_cast<double>(whole.size()))));
    EXPECT_THAT(refusal(), HasSubstr("denoiser.ts")) << part;
  }
}

TEST_F(AModelFile, InHalfPrecisionIsWidenedWhereTheNetworkComputesInFloat32) {
  testing::TinyModelOptions options;
  testing::make_tiny_model(path(), options);
  const auto x = at::randn({2, 3, 8, 8}), sigma = at::tensor({0.5f, 2.0f});
  const auto whole = load().forward(x, sigma, {}), half_of_whole = load(Precision::kFloat16).forward(x, sigma, {});
  options.half = true;
  testing::make_tiny_model(path(), options);
  const auto widened = load().forward(x, sigma, {});
  EXPECT_FALSE(at::equal(widened, whole));  // the weights are rounded
  EXPECT_TRUE(at::allclose(widened, whole, 1e-2, 1e-2));
  EXPECT_TRUE(at::equal(load(Precision::kFloat16).forward(x, sigma, {}), half_of_whole));  // and stay so in half
}

TEST_F(AModelFile, TakesOtherSizesWhereItsFactsSaySo) {
  testing::TinyModelOptions options;
  const auto load_sized = [&](ImageSize size) {
    return TorchScriptModel(path(), at::kCPU, Precision::kAuto, size).facts().state_shape(5);
  };
  const auto refused = [&](ImageSize size) { return test::error_of([&] { load_sized(size); }, /*exit_code=*/2); };
  testing::make_tiny_model(path(), options);
  EXPECT_EQ(load_sized({8, 8}), (std::array<std::int64_t, 4>{5, 3, 8, 8}));
  EXPECT_EQ(refused({16, 0}), "width: the model of tiny makes images of 8 pixels alone, got 16");
  options.facts.size_multiple = 2;
  options.facts.latent = LatentFacts{32, 3};
  testing::make_tiny_model(path(), options);
  EXPECT_EQ(load_sized({40, 0}), (std::array<std::int64_t, 4>{5, 3, 8, 10}));
  EXPECT_EQ(load_sized({16, 24}), (std::array<std::int64_t, 4>{5, 3, 6, 4}));
  for (const int bad : {-8, 4, 20}) {
    EXPECT_THAT(refused({0, bad}), HasSubstr("height: the model of tiny takes multiples of 8 pixels, got")) << bad;
  }
}

TEST_F(AModelFile, OfAFlowReturnsTheVelocity) {
  auto facts = testing::tiny_facts();
  facts.noise = FlowNoise{1.5};
  facts.sigma_min = 0.001;
  facts.sigma_max = 1;
  save(
      "def forward(self, x: Tensor, s: Tensor, condition: Optional[Tensor]) -> Tensor:\n"
      "    return 2.0 * x + s.reshape(-1, 1, 1, 1)\n",
      facts);
  const auto model = load();
  EXPECT_EQ(std::get<FlowNoise>(model.facts().noise).shift, 1.5);
  const auto x = at::randn({2, 3, 8, 8}), s = at::tensor({1.0F, 0.25F}), t = s.view({-1, 1, 1, 1});
  EXPECT_TRUE(at::equal(model.forward(x, s, {}), x - t * (2.0 * x + t)));
}

TEST_F(AModelFile, OfAnotherMakeIsRefused) {
  torch::jit::Module foreign("Foreign");
  foreign.define("def forward(self, x: Tensor) -> Tensor:\n    return x\n");
  foreign.save(path());
  EXPECT_THAT(refusal(), AllOf(HasSubstr("denoiser.ts"), HasSubstr("facts.json")));
  save("def forward(self, x: Tensor) -> Tensor:\n    return x\n");
  EXPECT_THAT(refusal(), HasSubstr("forward(x, sigma, condition)"));
}

TEST_F(AModelFile, OfAnotherContractIsRefused) {
  testing::TinyModelOptions options;
  options.facts_json = model_facts_text(options.facts);
  const auto at = options.facts_json.find("\"contract_version\": 1");
  ASSERT_NE(at, std::string::npos);
  options.facts_json.replace(at, 21, "\"contract_version\": 7");
  testing::make_tiny_model(path(), options);
  EXPECT_THAT(refusal(), AllOf(HasSubstr("denoiser.ts"), HasSubstr("7")));
}

TEST_F(AModelFile, WithoutThePromisedMethodsIsRefused) {
  testing::TinyModelOptions options;
  options.facts.latent = LatentFacts{16, 3};
  options.without_decode = true;
  testing::make_tiny_model(path(), options);
  EXPECT_THAT(refusal(), HasSubstr("decode"));
  options = {};
  options.facts.label_dim = 4;
  options.facts.condition = ConditionKind::kLabel;
  const auto facts = options.facts;
  auto promising = facts;
  promising.classifier = true;
  options.facts_json = model_facts_text(promising);
  testing::make_tiny_model(path(), options);
  EXPECT_THAT(refusal(), HasSubstr("log_prob"));
}

TEST_F(AModelFile, WhoseOutputHasAnotherShapeOrDtypeIsRefused) {
  const std::string head = "def forward(self, x: Tensor, sigma: Tensor, condition: Optional[Tensor]) -> Tensor:\n    ";
  save(head + "return x[:, :, 1:]\n");
  EXPECT_THAT(refusal(), HasSubstr("shape"));
  save(head + "return x.half()\n");
  EXPECT_THAT(refusal(), HasSubstr("dtype"));
}

TEST_F(AModelFile, ThatFailsInsideSaysWhyInOneLine) {
  save(
      "def forward(self, x: Tensor, sigma: Tensor, condition: Optional[Tensor]) -> Tensor:\n"
      "    return torch.matmul(x, torch.ones([5, 5]))\n");
  EXPECT_THAT(refusal(), AllOf(HasSubstr("forward failed"), HasSubstr("denoiser.ts")));
}

// Convolutions take on the layout of their weights, so a network stays in it from its first to its last.
TEST_F(AModelFile, ComputesWithChannelsLastWhateverItsWeightsLieLike) {
  for (const auto layout : {at::MemoryFormat::Contiguous, at::MemoryFormat::ChannelsLast}) {
    torch::jit::Module module("Foreign");
    const auto weight = at::randn({3, 3, 3, 3});
    module.register_parameter("weight", weight.contiguous(layout), false);
    module.define(
        "def forward(self, x: Tensor, sigma: Tensor, condition: Optional[Tensor]) -> Tensor:\n"
        "    return torch.relu(torch.conv2d(x, self.weight, padding=[1, 1]))\n");
    module.save(path(), {{"facts.json", model_facts_text(testing::tiny_facts())}});
    const auto x = at::randn({2, 3, 8, 6});
    const auto denoised = load().forward(x, at::ones({2}), {});
    EXPECT_EQ(denoised.suggest_memory_format(), at::MemoryFormat::ChannelsLast);
    EXPECT_TRUE(at::allclose(denoised, at::conv2d(x, weight, {}, 1, 1).relu(), 1e-5, 1e-5));
  }
}

TEST_F(AModelFile, RunsItsNetworkInLowerPrecisionOnRequest) {
  testing::make_tiny_model(path());
  const auto full = load(), low = load(Precision::kBFloat16);
  EXPECT_EQ(full.precision(), Precision::kFloat32);
  EXPECT_EQ(low.precision(), Precision::kBFloat16);
  const auto x = at::randn({2, 3, 8, 8}), sigma = at::tensor({1.0f, 20.0f});
  const auto expected = full.forward(x, sigma, {}), rounded = low.forward(x, sigma, {});
  EXPECT_EQ(rounded.scalar_type(), at::kFloat);  // the preconditioning stays float32
  EXPECT_FALSE(at::equal(rounded, expected));
  EXPECT_TRUE(at::allclose(rounded, expected, 0.05, 0.05));
}

TEST_F(AModelFile, WithoutASubmoduleNetworkKeepsItsPrecision) {
  save(
      "def forward(self, x: Tensor, sigma: Tensor, condition: Optional[Tensor]) -> Tensor:\n"
      "    return x\n");
  EXPECT_NO_THROW(load());
  EXPECT_THAT(test::error_of([&] { load(Precision::kBFloat16); }), HasSubstr("network"));
  EXPECT_THAT(test::error_of([&] { load(Precision::kTf32); }), HasSubstr("tf32"));
}

}  // namespace
}  // namespace epd
