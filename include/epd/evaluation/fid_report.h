#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "epd/images/image_source.h"
#include "epd/metrics/scores.h"

namespace epd {

/// A set of pictures, or statistics alone, as a report shows it.
struct PictureSet {
  FeatureSet data;
  std::shared_ptr<const ImageSource> source;  // none where only statistics are known
  std::vector<std::size_t> indices;           // of the source's pictures, in the order of the features
};

/// One HTML file that needs no other: the scores with their meaning and direction, a random grid of generated beside
/// real pictures, generated pictures beside the real ones that are nearest to them in feature space (copies of the data
/// show there), the spectra of both covariances, and `record`, the settings. What needs pictures or features that are
/// not there says so. The same inputs give the same page. Throws Error for pictures that cannot be read.
std::string report_page(const Scores& scores, const PictureSet& generated, const PictureSet& reference,
                        const JsonObject& record);

}  // namespace epd
