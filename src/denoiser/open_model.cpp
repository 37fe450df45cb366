#include "epd/denoiser/open_model.h"

namespace epd {

OpenedModel open_model(const ModelOptions& options) {
  OpenedModel opened;
  opened.model = std::make_shared<const TorchScriptModel>(options.path, options.device, options.precision);
  const auto guided = std::make_shared<const GuidedDenoiser>(opened.model, options.guidance);
  opened.denoiser = std::make_shared<const ChunkedDenoiser>(guided, options.chunks, options.device);
  return opened;
}

}  // namespace epd
