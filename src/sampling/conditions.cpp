#include "epd/sampling/conditions.h"

#include <utility>

#include "epd/assets/paths.h"
#include "epd/core/error.h"
#include "epd/denoiser/lanes.h"
#include "epd/sampling/latents.h"
#include "epd/text/clip_tokenizer.h"
#include "epd/text/prompts.h"

namespace epd {
namespace {

class LabelConditions : public Conditions {
 public:
  LabelConditions(std::shared_ptr<const TorchScriptModel> model, std::optional<std::int64_t> label)
      : model_(std::move(model)), label_(label) {}

  Condition of(const std::vector<std::uint64_t>&, const at::Tensor& labels) const override {
    return label_condition(label_ ? at::full_like(labels, *label_) : labels, model_->facts());
  }
  std::string prompt(std::uint64_t) const override { return {}; }

 private:
  std::shared_ptr<const TorchScriptModel> model_;
  std::optional<std::int64_t> label_;
};

class TextConditions : public Conditions {
 public:
  TextConditions(std::shared_ptr<const TorchScriptModel> model, const std::filesystem::path& model_path,
                 const ConditionOptions& options)
      : model_(std::move(model)),
        tokenizer_(ClipTokenizer::read(model_path.parent_path())),
        options_(options),
        lanes_(model_->device()) {
    if (!options.prompt) captions_.emplace(Prompts::read(options.prompt_file));
    unconditional_ = encoded({""});
    if (options.prompt) same_for_all_ = encoded({*options.prompt});
  }

  Condition of(const std::vector<std::uint64_t>& seeds, const at::Tensor& labels) const override {
    const auto batch = static_cast<std::int64_t>(seeds.size());
    Condition condition;
    condition.labels = labels;
    condition.unconditional = unconditional_.expand({batch, -1, -1});
    if (same_for_all_.defined()) {
      condition.value = same_for_all_.expand({batch, -1, -1});
    } else {
      std::vector<std::string> texts;
      for (const std::uint64_t seed : seeds) texts.push_back(prompt(seed));
      condition.value = encoded(texts);
    }
    return condition;
  }

  std::string prompt(std::uint64_t seed) const override {
    if (options_.prompt) return *options_.prompt;
    return options_.captions_repeat ? captions_->for_any_seed(seed) : captions_->for_seed(seed);
  }

 private:
  /// Text states [B, tokens, width]. The encoder, too, sees one number of texts only, so that a text's states do not
  /// depend on its neighbours.
  at::Tensor encoded(const std::vector<std::string>& texts) const {
    const auto length = static_cast<std::size_t>(model_->facts().text->tokens);
    std::vector<at::Tensor> rows;
    for (const auto& text : texts) rows.push_back(at::tensor(tokenizer_.encode(text, length), at::kLong));
    const auto tokens = at::stack(rows).to(model_->device());
    const auto parts = tokens.split(options_.chunk);
    std::vector<at::Tensor> states(parts.size());
    lanes_.run(parts.size(), [&](std::size_t i) {
      states[i] = model_->encode_text(padded_rows(parts[i], options_.chunk)).narrow(0, 0, parts[i].size(0));
    });
    return at::cat(states);
  }

  std::shared_ptr<const TorchScriptModel> model_;
  ClipTokenizer tokenizer_;
  ConditionOptions options_;
  Lanes lanes_;
  std::optional<Prompts> captions_;
  at::Tensor unconditional_;  // [1, tokens, width]: the states of the empty text
  at::Tensor same_for_all_;   // [1, tokens, width], or undefined
};

}  // namespace

ConditionOptions ConditionOptions::resolved(const ModelFacts& facts) const {
  EPD_REQUIRE_USAGE(!label || facts.label_dim > 0, "class: the model of ", facts.dataset_name, " has no classes");
  EPD_REQUIRE_USAGE(!label || (*label >= 0 && *label < facts.label_dim), "class: expected 0 to ", facts.label_dim - 1,
                    " for the model of ", facts.dataset_name, ", got ", label.value_or(0));
  const bool takes_text = facts.condition == ConditionKind::kText;
  EPD_REQUIRE_USAGE(takes_text || (!prompt && prompt_file.empty()), prompt ? "prompt" : "prompt_file",
                    ": the model of ", facts.dataset_name, " takes no text");
  EPD_REQUIRE_USAGE(!prompt || prompt_file.empty(), "a prompt and a file of prompts exclude each other");
  ConditionOptions result = *this;
  if (takes_text && !prompt && prompt_file.empty()) result.prompt_file = find_captions(facts.dataset_name);
  EPD_REQUIRE_USAGE(!takes_text || prompt || !result.prompt_file.empty(), "the model of ", facts.dataset_name,
                    " is conditioned on text: give --prompt, or a file of prompts");
  return result;
}

std::unique_ptr<Conditions> make_conditions(std::shared_ptr<const TorchScriptModel> model,
                                            const std::filesystem::path& model_path, const ConditionOptions& options) {
  const auto resolved = options.resolved(model->facts());
  if (model->facts().condition == ConditionKind::kText) {
    return std::make_unique<TextConditions>(std::move(model), model_path, resolved);
  }
  return std::make_unique<LabelConditions>(std::move(model), resolved.label);
}

}  // namespace epd
