#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include "epd/core/model_facts.h"
#include "epd/core/names.h"

namespace epd {

/// What runs the network without gradients.
enum class Engine { kAuto, kTorchScript, kCompiled };

inline constexpr NameTable<Engine, 3> kEngineNames{
    {{"auto", Engine::kAuto}, {"torchscript", Engine::kTorchScript}, {"compiled", Engine::kCompiled}}};
constexpr const auto& names_of(Engine) { return kEngineNames; }

/// What a compiled forward must be of.
struct CompiledFor {
  std::filesystem::path model;  // beside which it lies
  std::string model_sha256;
  at::Device device = at::kCPU;
  Precision precision = Precision::kFloat32;
  std::int64_t rows = 16;  // in one forward
};

/// A model's forward that AOTInductor has compiled for this machine, for one number of rows (models/optimize.py). It
/// has no gradients.
class CompiledForward {
 public:
  /// The file that compiled forwards of this kind have: "denoiser.cpu-bf16-16.pt2" beside "denoiser.ts".
  static std::filesystem::path path_for(const CompiledFor& wanted);

  /// Throws Error, naming the file, where it is missing, damaged, or of another model, LibTorch or processor.
  explicit CompiledForward(const CompiledFor& wanted);
  ~CompiledForward();
  CompiledForward(const CompiledForward&) = delete;

  const std::string& sha256() const { return sha256_; }
  /// Whether it computes a batch of x's rows: whole multiples of its own.
  bool takes(const at::Tensor& x) const { return x.size(0) % rows_ == 0 && x.scalar_type() == at::kFloat; }
  /// As TorchScriptModel::forward. Several threads may call it at once.
  at::Tensor forward(const at::Tensor& x, const at::Tensor& sigma, const at::Tensor& condition) const;

 private:
  struct Loader;
  std::int64_t rows_;
  std::string sha256_;
  std::unique_ptr<Loader> loader_;
};

}  // namespace epd
