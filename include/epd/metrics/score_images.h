#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "epd/images/image_source.h"
#include "epd/metrics/scorer.h"

namespace epd {

struct ImagePass {
  std::size_t batch = 250;         // pictures decoded ahead of the network: memory, never the result
  int workers = 2;                 // threads that decode
  bool allow_mixed_sizes = false;  // each picture to the detector at its own size
  bool keep_features = false;
};

/// The features of these pictures of the source: each process takes a run of consecutive ones. `name` is the source's
/// in the statistics, in the progress bar and in messages. Throws Error, naming the file, for a picture that cannot be
/// read or, unless mixed sizes are allowed, is of another size than the first; for fewer than 2 pictures.
FeatureSet score_images(const ImageSource& source, const std::vector<std::size_t>& indices,
                        const std::shared_ptr<const Detector>& detector, const ImagePass& pass, ProcessGroup& group,
                        const std::string& name);

}  // namespace epd
