#include "epd/denoiser/open_model.h"

#include "epd/core/names.h"
#include "epd/core/sha256.h"
#include "epd/denoiser/device.h"

namespace epd {

OpenedModel open_model(const ModelOptions& options) {
  OpenedModel opened;
  opened.model = std::make_shared<const TorchScriptModel>(options.path, options.device, options.precision);
  const auto guided = std::make_shared<const GuidedDenoiser>(opened.model, options.guidance);
  opened.denoiser = std::make_shared<const ChunkedDenoiser>(guided, options.chunks, options.device);
  const auto& g = options.guidance;
  opened.identity = sha256_hex(text(opened.model->sha256(), " ", name_of(kPrecisionNames, opened.model->precision()),
                                    " ", name_of(kGuidanceNames, g.kind), " ", g.rate, " ", g.thresholding, " ",
                                    options.chunks.chunk, " ", kind_of(options.device)));
  return opened;
}

}  // namespace epd
