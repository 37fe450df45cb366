#include "support/tiny_model.h"

#include <torch/script.h>

#include <cmath>

#include "epd/core/error.h"
#include "epd/documents/model_facts_json.h"

namespace epd::testing {
namespace {

/// The inner network F(x, noise, embedding): two convolutions with the noise level and the condition in between.
constexpr const char* kNetwork = R"JIT(
def forward(self, x: Tensor, noise: Tensor, condition: Optional[Tensor]) -> Tensor:
    dtype = self.weight_in.dtype
    h = torch.conv2d(x.to(dtype), self.weight_in, None, [1, 1], [1, 1])
    h = h + torch.outer(noise.to(dtype), self.weight_noise).unsqueeze(2).unsqueeze(3)
    if condition is not None:
        h = h + self.embedding(condition).to(dtype).unsqueeze(2).unsqueeze(3)
    h = torch.silu(h)
    return torch.conv2d(h, self.weight_out, None, [1, 1], [1, 1])
)JIT";

constexpr const char* kOneHotEmbedding = R"JIT(
def embedding(self, condition: Tensor) -> Tensor:
    return torch.matmul(condition.to(self.weight_condition.dtype), self.weight_condition)
)JIT";

constexpr const char* kIndexEmbedding = R"JIT(
def embedding(self, condition: Tensor) -> Tensor:
    return torch.index_select(self.weight_condition, 0, condition)
)JIT";

constexpr const char* kTextEmbedding = R"JIT(
def embedding(self, condition: Tensor) -> Tensor:
    return torch.matmul(torch.mean(condition.to(self.weight_condition.dtype), 1), self.weight_condition)
)JIT";

/// D = c_skip x + c_out F(c_in x; ln(sigma) / 4) with sigma_data = 1/2 (EDM, Table 1).
constexpr const char* kForward = R"JIT(
def forward(self, x: Tensor, sigma: Tensor, condition: Optional[Tensor]) -> Tensor:
    s = sigma.to(x.dtype).reshape(-1, 1, 1, 1)
    scale = torch.sqrt(s * s + 0.25)
    f = self.network.forward(x / scale, torch.log(sigma.to(x.dtype)) * 0.25, condition).to(x.dtype)
    return 0.25 / (scale * scale) * x + 0.5 * s / scale * f
)JIT";

constexpr const char* kGuide = R"JIT(
def guide(self, x: Tensor, sigma: Tensor, condition: Optional[Tensor]) -> Tensor:
    return x / (1.0 + sigma.to(x.dtype).reshape(-1, 1, 1, 1) ** 2) + torch.mean(self.guide_network.weight).to(x.dtype)
)JIT";

constexpr const char* kDecode = R"JIT(
def decode(self, latent: Tensor) -> Tensor:
    images = torch.matmul(latent.permute(0, 2, 3, 1), self.weight_decode.to(latent.dtype)).permute(0, 3, 1, 2)
    return torch.repeat_interleave(torch.repeat_interleave(images, self.factor, 2), self.factor, 3)
)JIT";

constexpr const char* kEncodeText = R"JIT(
def encode_text(self, tokens: Tensor) -> Tensor:
    return torch.index_select(self.weight_tokens, 0, (tokens % 97).reshape(-1)).reshape(tokens.size(0), tokens.size(1), -1)
)JIT";

/// With one more row: the mean of the others.
constexpr const char* kEncodeTextAndPool = R"JIT(
def encode_text(self, tokens: Tensor) -> Tensor:
    states = torch.index_select(self.weight_tokens, 0, (tokens % 97).reshape(-1)).reshape(tokens.size(0), tokens.size(1), -1)
    return torch.cat([states, torch.mean(states, 1, True)], 1)
)JIT";

constexpr const char* kLogProb = R"JIT(
def log_prob(self, x: Tensor, sigma: Tensor, label: Tensor) -> Tensor:
    means = torch.mean(torch.flatten(x, 2), 2) / torch.sqrt(sigma.to(x.dtype) ** 2 + 0.25).reshape(-1, 1)
    logits = torch.matmul(torch.tanh(means), self.weight_classes.to(x.dtype))
    return torch.gather(torch.log_softmax(logits, 1), 1, label.unsqueeze(1)).squeeze(1)
)JIT";

constexpr const char* kDetector = R"JIT(
def forward(self, images: Tensor) -> Tensor:
    h = torch.silu(torch.conv2d(images.float() / 127.5 - 1.0, self.weight, None, [2, 2], [1, 1]))
    return torch.mean(torch.flatten(h, 2), 2)
)JIT";

class Weights {
 public:
  explicit Weights(std::uint64_t seed) : generator_(at::make_generator<at::CPUGeneratorImpl>(seed)) {}
  /// A parameter of normal numbers, for `fan_in` summands each.
  void add(torch::jit::Module& module, const char* name, at::IntArrayRef shape, double fan_in) {
    module.register_parameter(name, at::randn(shape, generator_) / std::sqrt(fan_in), /*is_buffer=*/false);
  }

 private:
  at::Generator generator_;
};

torch::jit::Module make_network(const TinyModelOptions& o, Weights& weights) {
  torch::jit::Module network("TinyNetwork");
  const auto& facts = o.facts;
  const int condition_width = facts.text ? facts.text->width : std::max(facts.label_dim, 1);
  weights.add(network, "weight_in", {o.width, facts.channels, 3, 3}, 9.0 * facts.channels);
  weights.add(network, "weight_noise", {o.width}, 1);
  weights.add(network, "weight_condition", {condition_width, o.width}, facts.text ? condition_width : 1);
  if (o.bad_label >= 0) network.attr("weight_condition").toTensor()[o.bad_label].fill_(std::nan(""));
  weights.add(network, "weight_out", {facts.channels, o.width, 3, 3}, 9.0 * o.width);
  const bool index = facts.condition == ConditionKind::kLabel && facts.label_format == LabelFormat::kIndex;
  network.define(facts.text ? kTextEmbedding : index ? kIndexEmbedding : kOneHotEmbedding);
  network.define(kNetwork);
  return network;
}

void add_other_methods(torch::jit::Module& model, const TinyModelOptions& o, Weights& weights) {
  const auto& facts = o.facts;
  if (facts.latent && !o.without_decode) {
    weights.add(model, "weight_decode", {facts.channels, facts.latent->image_channels}, facts.channels);
    model.register_attribute("factor", c10::IntType::get(),
                             std::int64_t{facts.latent->image_resolution} / facts.resolution);
    model.define(kDecode);
  }
  if (facts.text) {
    weights.add(model, "weight_tokens", {97, facts.text->width}, 1);
    model.define(facts.text->rows == facts.text->tokens ? kEncodeText : kEncodeTextAndPool);
  }
  if (facts.guide) {
    torch::jit::Module guide("TinyGuide");
    weights.add(guide, "weight", {1 << 16}, 1);
    model.register_module("guide_network", guide);
    model.define(kGuide);
  }
  if (facts.classifier) {
    weights.add(model, "weight_classes", {facts.channels, facts.label_dim}, facts.channels);
    model.define(kLogProb);
  }
}

}  // namespace

TinyModelOptions::TinyModelOptions() : facts(tiny_facts()) {}

ModelFacts tiny_facts(const std::string& dataset_name) {
  ModelFacts facts;
  facts.dataset_name = dataset_name;
  facts.resolution = 8;
  facts.channels = 3;
  return facts;
}

void make_tiny_model(const std::filesystem::path& path, const TinyModelOptions& options) {
  Weights weights(options.seed);
  torch::jit::Module model("TinyModel");
  model.register_module("network", make_network(options, weights));
  model.define(kForward);
  add_other_methods(model, options, weights);
  if (options.half) model.attr("network").toModule().to(at::kHalf);
  model.eval();
  const auto facts = options.facts_json.empty() ? model_facts_text(options.facts) : options.facts_json;
  model.save(path.string(), {{"facts.json", facts}});
}

void make_tiny_detector(const std::filesystem::path& path, int features, std::uint64_t seed) {
  Weights weights(seed);
  torch::jit::Module detector("TinyDetector");
  weights.add(detector, "weight", {features, 3, 3, 3}, 27);
  detector.define(kDetector);
  detector.eval();
  detector.save(path.string());
}

}  // namespace epd::testing
