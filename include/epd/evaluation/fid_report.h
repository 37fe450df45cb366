#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "epd/images/image_source.h"
#include "epd/metrics/scores.h"

namespace epd {

/// A set of images, or statistics alone, as a report shows it.
struct ImageSet {
  FeatureSet data;
  std::shared_ptr<const ImageSource> source;  // none where only statistics are known
  std::vector<std::size_t> indices;           // of the source's images, in the order of the features
};

/// One HTML file that needs no other: the scores with their meaning and direction, a random grid of generated beside
/// real images, generated images beside the real ones that are nearest to them in feature space (memorised training
/// images show up there), the spectra of both covariances, and `record`, the settings. What needs images or features
/// that are not there says so. The same inputs give the same page. Throws Error for images that cannot be read.
std::string report_page(const Scores& scores, const ImageSet& generated, const ImageSet& reference, const Json& record);

}  // namespace epd
