#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "epd/core/options.h"
#include "epd/denoiser/open_model.h"

namespace epd {

/// What the user wants the images to show. Nothing set: a label drawn from each seed, for models with labels.
struct ConditionOptions {
  std::optional<std::int64_t> label;  // one class for all
  std::optional<std::string> prompt;  // one text for all
  /// Caption i for seed i: lines, or a CSV with the column `text`, and perhaps `negative_prompt`.
  std::filesystem::path prompt_file;
  std::optional<std::string> negative_prompt;  // under cfg: one text for all that have none of their own in the CSV
  ImageSize size;
  bool cfg = true;               // cfg is used, without which negative prompts would have no effect
  bool captions_repeat = false;  // for seeds beyond the last caption; else they are refused
  std::int64_t chunk = 16;       // texts encoded in one forward, a smaller last chunk padded

  /// These options, with the dataset's own captions where the model takes text and none is given. Throws UsageError
  /// where the model has no such condition, or the label is none of its own.
  ConditionOptions resolved(const ModelFacts& facts) const;
};

Options options_of(ConditionOptions& options);

/// The condition of each image, a function of its seed.
class Conditions {
 public:
  virtual ~Conditions() = default;
  /// Of the images of `seeds`, whose draws gave `labels` ([B], or undefined), on the labels' and the model's device.
  virtual Condition of(const std::vector<std::uint64_t>& seeds, const at::Tensor& labels) const = 0;
  /// Of models conditioned on text, the states of none [1, rows, width].
  virtual at::Tensor without_text() const { return {}; }
  /// The text of an image, for the record beside it; empty where there is none.
  virtual std::string prompt(std::uint64_t seed) const = 0;
  /// What the tokenizer cuts off the prompts of these seeds, in one line: how many it cuts, and what the first of them
  /// loses; empty where it cuts none. Without seeds: of all captions there are.
  virtual std::string cut_off(const std::vector<std::uint64_t>&) const { return {}; }
};

/// Labels, or for models conditioned on text the states of its encoder; the tokenizer's files stand beside the model.
/// Throws UsageError for options that do not fit the model, Error for files that cannot be read.
std::unique_ptr<Conditions> make_conditions(std::shared_ptr<const TorchScriptModel> model,
                                            const std::filesystem::path& model_path, const ConditionOptions& options);

/// What the model is told of the labels [B]: one-hot or index, with the state of no label where there is one.
Condition label_condition(const at::Tensor& labels, const ModelFacts& facts);

/// These conditions with the mean of the data under each, for plans that begin with it: of the image's label where the
/// model has labels; for models conditioned on text that of no text. At sigma_max, where the state is all noise, it is
/// what the denoiser shows: here its mean over a few latents and their mirror images, which cancels what is linear in
/// the latent. Computed once and kept in the cache, under the model's identity.
std::shared_ptr<const Conditions> with_mean(std::shared_ptr<const Conditions> conditions, const OpenedModel& model);

}  // namespace epd
