#pragma once

#include <memory>

#include "epd/denoiser/open_model.h"
#include "epd/sampling/conditions.h"

namespace epd {

/// These conditions with the mean of the data under each, for plans that begin with it: of the image's label where the
/// model has labels; for models conditioned on text that of no text. At sigma_max, where the state is all noise, it is
/// what the denoiser shows: here its mean over a few latents and their mirror images, which cancels what is linear in
/// the latent. Computed once and kept in the cache, under the model's identity.
std::shared_ptr<const Conditions> with_mean(std::shared_ptr<const Conditions> conditions, const OpenedModel& model);

}  // namespace epd
