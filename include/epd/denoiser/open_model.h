#pragma once

#include <filesystem>
#include <memory>

#include "epd/denoiser/chunked.h"
#include "epd/denoiser/compiled.h"
#include "epd/denoiser/guidance.h"
#include "epd/denoiser/torchscript.h"

namespace epd {

struct ModelOptions {
  std::filesystem::path path;
  at::Device device = at::kCPU;
  Precision precision = Precision::kAuto;
  GuidanceOptions guidance;
  ChunkOptions chunks;
  Engine engine = Engine::kTorchScript;
  ImageSize size = {};   // 0: the model's own
  bool offload = false;  // on an accelerator: one of the model's networks there at a time
};

/// A loaded model and the denoiser that solvers meet: guided, then in fixed chunks.
struct OpenedModel {
  std::shared_ptr<const TorchScriptModel> model;
  std::shared_ptr<const Denoiser> denoiser;
  std::string identity;  // a hash of all that the denoiser's numbers depend on; empty: not known

  const ModelFacts& facts() const { return model->facts(); }
};

/// A compiled forward that was asked for and does not fit is an Error; with Engine::kAuto a warning, if one lies there.
OpenedModel open_model(const ModelOptions& options);

}  // namespace epd
