#include "epd/denoiser/open_model.h"

#include "epd/core/error.h"
#include "epd/core/log.h"
#include "epd/core/names.h"
#include "epd/core/sha256.h"
#include "epd/denoiser/device.h"

namespace epd {

namespace {

void choose_engine(TorchScriptModel& model, const ModelOptions& options) {
  if (options.engine == Engine::kTorchScript) return;
  const CompiledFor wanted{options.path, model.sha256(), options.device, model.precision(), options.chunks.chunk};
  const auto path = CompiledForward::path_for(wanted);
  const bool must = options.engine == Engine::kCompiled;
  if (!must && !std::filesystem::exists(path)) return;
  try {
    model.use(std::make_unique<const CompiledForward>(wanted));
    log::info("the network runs compiled: ", path.string());
  } catch (const Error& e) {
    if (must) throw;
    log::warning(e.what(), "; TorchScript runs the network");
  }
}

}  // namespace

OpenedModel open_model(const ModelOptions& options) {
  OpenedModel opened;
  const auto model = std::make_shared<TorchScriptModel>(options.path, options.device, options.precision, options.size,
                                                        options.offload);
  choose_engine(*model, options);
  opened.model = model;
  const auto guided = std::make_shared<const GuidedDenoiser>(opened.model, options.guidance);
  opened.denoiser = std::make_shared<const ChunkedDenoiser>(guided, options.chunks, options.device);
  const auto& g = options.guidance;
  const auto& f = model->facts();
  const auto size = f.height > 0 || f.width > 0 ? text(" ", f.height, "x", f.width) : "";
  opened.identity = sha256_hex(text(opened.model->sha256(), " ", name_of(kPrecisionNames, opened.model->precision()),
                                    " ", name_of(kGuidanceNames, g.kind), " ", g.rate, " ", g.thresholding, " ",
                                    options.chunks.chunk, " ", kind_of(options.device), size,
                                    model->compiled() != nullptr ? " " + model->compiled()->sha256() : ""));
  return opened;
}

}  // namespace epd
