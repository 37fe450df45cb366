#pragma once

#include <ATen/ATen.h>

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "epd/core/model_facts.h"
#include "epd/core/names.h"
#include "epd/denoiser/compiled.h"

namespace epd {

inline constexpr NameTable<Precision, 5> kPrecisionNames{{
    {"auto", Precision::kAuto},
    {"fp32", Precision::kFloat32},
    {"tf32", Precision::kTf32},
    {"fp16", Precision::kFloat16},
    {"bf16", Precision::kBFloat16},
}};
constexpr const auto& names_of(Precision) { return kPrecisionNames; }

/// A model file: TorchScript that keeps the contract (README.md, "The model contract"), checked at load, its weights
/// frozen. All methods let autograd through to their inputs.
class TorchScriptModel {
 public:
  /// Throws Error where the file is missing, damaged, foreign or does not keep the contract; names the file and why.
  /// `precision` is that of the inner network; kAuto: what the file prefers on a GPU that is fast
  /// in it, float32 elsewhere.
  /// `offload`: the networks (kParts in torchscript.cpp) wait on the CPU, and the device holds the one that works.
  TorchScriptModel(const std::filesystem::path& path, at::Device device, Precision precision, ImageSize size = {},
                   bool offload = false);
  ~TorchScriptModel();
  TorchScriptModel(const TorchScriptModel&) = delete;

  const ModelFacts& facts() const { return facts_; }
  const std::string& sha256() const { return sha256_; }
  at::Device device() const { return device_; }
  /// What the inner network really computes in; never kAuto.
  Precision precision() const { return precision_; }
  /// Whether what stays float32 - the decoder, the classifier - is computed in TF32: where the network is no better.
  bool allows_tf32() const { return precision_ != Precision::kFloat32; }

  /// From here on `forward` without gradients is the compiled one's, for the batches that it takes.
  void use(std::unique_ptr<const CompiledForward> compiled) { compiled_ = std::move(compiled); }
  /// What computes `forward` without gradients; null: TorchScript.
  const CompiledForward* compiled() const { return compiled_.get(); }

  /// The unclamped D: x [B, C, H, W], sigma [B], condition [B, ...] or undefined. Of a flow model sigma is its time s,
  /// and D = x - s v, v what the network returns.
  at::Tensor forward(const at::Tensor& x, const at::Tensor& sigma, const at::Tensor& condition) const;
  /// The same of the second network, for models with a guide.
  at::Tensor guide(const at::Tensor& x, const at::Tensor& sigma, const at::Tensor& condition) const;
  /// Images in about [-1, 1] from the state: the model's decoder, or the state itself for pixel models.
  at::Tensor decode(const at::Tensor& x) const;
  /// Text states [B, rows, width] from int64 tokens [B, tokens].
  at::Tensor encode_text(const at::Tensor& tokens) const;
  /// log p(label | x; sigma), [B].
  at::Tensor log_prob(const at::Tensor& x, const at::Tensor& sigma, const at::Tensor& labels) const;

  /// Bytes of weights that offloading keeps off the device at any time.
  std::int64_t offloaded_bytes() const;

 private:
  struct Module;
  void check_contract() const;
  at::Tensor denoised(const at::Tensor& result, const at::Tensor& x, const at::Tensor& sigma) const;

  std::filesystem::path path_;
  ModelFacts facts_;
  std::string sha256_;
  at::Device device_;
  Precision precision_;
  std::unique_ptr<Module> module_;
  std::unique_ptr<const CompiledForward> compiled_;
};

}  // namespace epd
