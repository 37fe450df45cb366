#include "support/mixture_model.h"

#include <torch/script.h>

#include <vector>

#include "epd/documents/model_facts_json.h"
#include "support/closed_denoisers.h"

namespace epd::testing {
namespace {

constexpr const char* kForward = R"JIT(
def forward(self, x: Tensor, sigma: Tensor, condition: Optional[Tensor]) -> Tensor:
    labels = torch.zeros_like(sigma).long()
    if condition is not None:
        labels = condition
    a, mu, s = torch.unbind(torch.index_select(self.mixtures, 0, labels).to(x.dtype).reshape(-1, 3, 1, 1, 1), 1)
    noise = sigma.to(x.dtype).reshape(-1, 1, 1, 1) ** 2
    v = s * s + noise
    return a + (s * s * (x - a) + noise * mu * torch.tanh(mu * (x - a) / v)) / v
)JIT";

}  // namespace

ModelFacts mixture_facts() {
  ModelFacts facts;
  facts.dataset_name = "mixture";
  facts.resolution = 4;
  facts.channels = 3;
  facts.label_dim = static_cast<int>(kLabelMixtures.size());
  facts.condition = ConditionKind::kLabel;
  facts.label_format = LabelFormat::kIndex;
  facts.noise = VpNoise{};
  return facts;
}

void make_mixture_model(const std::filesystem::path& path, const ModelFacts& facts) {
  std::vector<double> numbers;
  for (const auto& [a, mu, s] : kLabelMixtures) numbers.insert(numbers.end(), {a, mu, s});
  torch::jit::Module model("Mixtures");
  model.register_buffer("mixtures", at::tensor(numbers, at::kDouble).view({-1, 3}));
  model.define(kForward);
  model.eval();
  model.save(path.string(), {{"facts.json", model_facts_text(facts)}});
}

}  // namespace epd::testing
