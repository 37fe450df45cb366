#pragma once

#include <cstdint>
#include <vector>

#include "epd/images/image.h"
#include "epd/sampling/output_layout.h"

namespace epd {

/// The pixels of a finished image, from its single file.
Image read_image(const OutputLayout& layout, std::uint64_t seed);

/// Puts the images' single files together, in the order of the seeds, as the files of many that the layout names, each
/// by rename, and removes the single ones. `labels` are the images', empty for models without.
void pack_images(const OutputLayout& layout, const std::vector<std::uint64_t>& seeds,
                 const std::vector<std::int64_t>& labels);

}  // namespace epd
