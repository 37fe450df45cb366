#include "epd/sampling/conditions.h"

#include <torch/csrc/autograd/grad_mode.h>

#include <algorithm>
#include <numeric>
#include <string_view>
#include <utility>

#include "epd/assets/paths.h"
#include "epd/core/error.h"
#include "epd/core/log.h"
#include "epd/denoiser/device.h"
#include "epd/denoiser/lanes.h"
#include "epd/files/npz.h"
#include "epd/metrics/tensor_images.h"
#include "epd/sampling/seed_noise.h"
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
    EPD_REQUIRE_USAGE(options.cfg || !captions_ || !captions_->has_negatives(), options.prompt_file.string(),
                      ": its negative prompts have no effect without --guidance_type cfg");
    check_weights();
    const auto& facts = *model_->facts().text;
    const auto zeros = at::TensorOptions(model_->device()).dtype(at::kFloat);
    without_text_ = facts.zeros_unconditional ? at::zeros({1, facts.rows, facts.width}, zeros) : encoded({""});
    unconditional_ = options.negative_prompt ? encoded({*options.negative_prompt}) : without_text_;
    if (options.prompt) same_for_all_ = encoded({*options.prompt});
  }

  Condition of(const std::vector<std::uint64_t>& seeds, const at::Tensor& labels) const override {
    const auto batch = static_cast<std::int64_t>(seeds.size());
    Condition condition;
    condition.labels = labels;
    condition.unconditional =
        captions_ && captions_->has_negatives() ? negative_states(seeds) : unconditional_.expand({batch, -1, -1});
    if (same_for_all_.defined()) {
      condition.value = same_for_all_.expand({batch, -1, -1});
    } else {
      std::vector<std::string> texts;
      for (const std::uint64_t seed : seeds) texts.push_back(prompt(seed));
      condition.value = encoded(texts);
    }
    return condition;
  }

  at::Tensor without_text() const override { return without_text_; }

  std::string prompt(std::uint64_t seed) const override {
    if (options_.prompt) return *options_.prompt;
    return options_.captions_repeat ? captions_->for_any_seed(seed) : captions_->for_seed(seed);
  }

  std::string cut_off(const std::vector<std::uint64_t>& given) const override {
    std::vector<std::uint64_t> seeds = given;
    if (options_.prompt) seeds = {0};
    if (seeds.empty()) {
      seeds.resize(captions_->size());
      std::iota(seeds.begin(), seeds.end(), std::uint64_t{0});
    }
    std::size_t count = 0;
    std::string first;
    for (const std::uint64_t seed : seeds) {
      const std::string lost = words_lost(prompt(seed));
      if (lost.empty() || count++ > 0) continue;
      const std::string whose = given.empty() ? text("caption ", seed) : text("the prompt of seed ", seed);
      first = text(options_.prompt ? "the prompt" : whose, " loses '", shown(lost), "'");
    }
    if (count == 0) return {};
    const std::string many = options_.prompt ? "" : text(count, " of ", seeds.size(), " prompts are too long: ");
    return text(many, first, " (the model reads ", room(), " tokens)");
  }

 private:
  /// Refuses weights, which would be read as words, and says once where brackets may be meant as such.
  void check_weights() const {
    bool brackets = false;
    const auto check = [&](const std::string& prompt) {
      const auto weight = weight_in(prompt);
      EPD_REQUIRE_USAGE(weight.empty(), "prompt: weights such as '", shown(weight),
                        "' are not supported; with a blank before the closing bracket it is read as it stands");
      brackets |= prompt.find('[') != prompt.npos || prompt.find("((") != prompt.npos;
    };
    for (const auto& prompt : {options_.prompt, options_.negative_prompt}) check(prompt.value_or(""));
    for (std::uint64_t i = 0; captions_ && i < captions_->size(); ++i) {
      check(captions_->for_any_seed(i));
      check(captions_->negative(i));
    }
    if (brackets) log::warning("brackets in prompts are read as they stand: they weigh nothing");
  }

  /// [B, rows, width]: of each image's own negative prompt, else of the one for all.
  at::Tensor negative_states(const std::vector<std::uint64_t>& seeds) const {
    std::vector<std::string> texts;
    for (const std::uint64_t seed : seeds) texts.push_back(captions_->negative(seed));
    const auto states = encoded(texts);
    for (std::size_t i = 0; i < texts.size(); ++i) {
      if (texts[i].empty()) states.select(0, static_cast<std::int64_t>(i)).copy_(unconditional_[0]);
    }
    return states;
  }

  /// The tokens of a text that the model reads, without start and end.
  std::size_t room() const { return static_cast<std::size_t>(model_->facts().text->tokens) - 2; }

  /// The end of a text that is not read, from the first word that does not fit as a whole.
  std::string words_lost(const std::string& prompt) const {
    if (tokenizer_.tokens(prompt).size() <= room()) return {};
    std::size_t fits = 0;
    for (std::size_t begin = 0; begin < prompt.size();) {
      const std::size_t end = std::min(prompt.find(' ', begin), prompt.size());
      if (tokenizer_.tokens(std::string_view(prompt).substr(0, end)).size() > room()) break;
      fits = std::min(end + 1, prompt.size());
      begin = end + 1;
    }
    return prompt.substr(fits);
  }

  /// Text states [B, rows, width]. The encoder, too, sees one number of texts only, so that a text's states do not
  /// depend on its neighbours.
  at::Tensor encoded(const std::vector<std::string>& texts) const {
    const auto length = static_cast<std::size_t>(model_->facts().text->tokens);
    std::vector<at::Tensor> rows;
    for (const auto& text : texts) rows.push_back(at::tensor(tokenizer_.encode(text, length), at::kLong));
    const auto tokens = to_device(at::stack(rows), model_->device());
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
  at::Tensor without_text_;   // [1, rows, width]: the states of the empty text, or zeros
  at::Tensor unconditional_;  // the same, or the negative prompt's
  at::Tensor same_for_all_;   // [1, rows, width], or undefined
};

/// The denoiser's mean over the latents and their mirror images, under one label or none: [C, H, W].
at::Tensor mean_of(const OpenedModel& model, const Conditions& conditions, const at::Tensor& label) {
  constexpr std::int64_t kPairs = 8;
  constexpr std::uint64_t kFirstSeed = std::uint64_t{1} << 31;  // no seed that images are drawn from
  const auto& facts = model.facts();
  const auto device = model.model->device();
  std::vector<std::uint64_t> seeds;
  for (std::int64_t i = 0; i < kPairs; ++i) seeds.push_back(kFirstSeed + static_cast<std::uint64_t>(i));
  const auto latents = seed_noise(seeds, facts, at::kCPU).latents.to(device);
  const auto x = start_state(at::cat({latents, -latents}), facts.sigma_max);
  Condition condition;
  if (facts.condition == ConditionKind::kText) {
    condition.unconditional = conditions.without_text().expand({2 * kPairs, -1, -1});
    condition.value = condition.unconditional;
  } else if (label.defined()) {
    condition = label_condition(label.expand({2 * kPairs}), facts);
  }
  return model.denoiser->forward(x, at::full({2 * kPairs}, facts.sigma_max, x.options()), 1, condition).mean(0);
}

/// [label_dim, C, H, W], or [1, C, H, W].
at::Tensor all_means(const OpenedModel& model, const Conditions& conditions) {
  const auto& facts = model.facts();
  if (facts.condition == ConditionKind::kText || facts.label_dim == 0) {
    return mean_of(model, conditions, {}).unsqueeze(0);
  }
  std::vector<at::Tensor> means;
  for (std::int64_t label = 0; label < facts.label_dim; ++label) {
    means.push_back(
        mean_of(model, conditions, at::full({1}, label, at::device(model.model->device()).dtype(at::kLong))));
  }
  return at::stack(means);
}

/// The means from the cache, or made and kept there. Where the cache cannot be written they are made again.
at::Tensor kept_means(const OpenedModel& model, const Conditions& conditions) {
  if (model.identity.empty()) return all_means(model, conditions);
  std::filesystem::path path;
  try {
    path = cache_dir() / "means" / (model.identity + ".npz");
    if (std::filesystem::exists(path)) return to_float_tensor(NpzReader(path).read("mean")).to(model.model->device());
  } catch (const Error& error) {
    log::warning("recomputing the data mean: ", error.what());
  }
  const auto means = all_means(model, conditions);
  if (path.empty()) return means;
  try {
    std::filesystem::create_directories(path.parent_path());
    write_npz(path, {{"mean", to_array(means)}});
  } catch (const std::exception& error) {
    log::warning("the data mean could not be cached: ", error.what());
  }
  return means;
}

class MeanConditions : public Conditions {
 public:
  MeanConditions(std::shared_ptr<const Conditions> inner, at::Tensor means)
      : inner_(std::move(inner)), means_(std::move(means)) {}

  Condition of(const std::vector<std::uint64_t>& seeds, const at::Tensor& labels) const override {
    auto condition = inner_->of(seeds, labels);
    const bool one = means_.size(0) == 1;
    condition.mean = one ? means_.expand({static_cast<std::int64_t>(seeds.size()), -1, -1, -1})
                         : means_.index_select(0, condition.labels);
    return condition;
  }
  at::Tensor without_text() const override { return inner_->without_text(); }
  std::string prompt(std::uint64_t seed) const override { return inner_->prompt(seed); }
  std::string cut_off(const std::vector<std::uint64_t>& seeds) const override { return inner_->cut_off(seeds); }

 private:
  std::shared_ptr<const Conditions> inner_;
  at::Tensor means_;
};

}  // namespace

ConditionOptions ConditionOptions::resolved(const ModelFacts& facts) const {
  EPD_REQUIRE_USAGE(!label || facts.label_dim > 0, "class: the model of ", facts.dataset_name, " has no classes");
  EPD_REQUIRE_USAGE(!label || (*label >= 0 && *label < facts.label_dim), "class: expected 0 to ", facts.label_dim - 1,
                    " for the model of ", facts.dataset_name, ", got ", label.value_or(0));
  const bool takes_text = facts.condition == ConditionKind::kText;
  EPD_REQUIRE_USAGE(takes_text || (!prompt && prompt_file.empty()), prompt ? "prompt" : "prompt_file",
                    ": the model of ", facts.dataset_name, " takes no text");
  EPD_REQUIRE_USAGE(!negative_prompt || takes_text, "negative_prompt: the model of ", facts.dataset_name,
                    " takes no text");
  EPD_REQUIRE_USAGE(!negative_prompt || cfg, "negative_prompt: it has no effect without --guidance_type cfg");
  EPD_REQUIRE_USAGE(!prompt || prompt_file.empty(), "give --prompt or a prompt file, not both");
  ConditionOptions result = *this;
  if (takes_text && !prompt && prompt_file.empty()) result.prompt_file = find_captions(facts.dataset_name);
  EPD_REQUIRE_USAGE(!takes_text || prompt || !result.prompt_file.empty(), "the model of ", facts.dataset_name,
                    " needs text: give --prompt or a prompt file");
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

Condition label_condition(const at::Tensor& labels, const ModelFacts& facts) {
  Condition condition;
  condition.labels = labels;
  if (facts.condition != ConditionKind::kLabel || !labels.defined()) return condition;
  if (facts.label_format == LabelFormat::kIndex) {
    condition.value = labels;
  } else {
    // As at::one_hot, which would have a look at the labels on the host.
    condition.value = labels.unsqueeze(1).eq(at::arange(facts.label_dim, labels.options())).to(at::kFloat);
    condition.unconditional = at::zeros_like(condition.value);
  }
  return condition;
}

std::shared_ptr<const Conditions> with_mean(std::shared_ptr<const Conditions> conditions, const OpenedModel& model) {
  const at::NoGradGuard no_grad;
  auto means = kept_means(model, *conditions);
  return std::make_shared<const MeanConditions>(std::move(conditions), std::move(means));
}

}  // namespace epd
