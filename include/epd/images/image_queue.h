#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <vector>

#include "epd/images/image.h"
#include "epd/images/image_source.h"

namespace epd {

struct PrefetchOptions {
  int threads = 2;
  std::size_t window = 64;  // pictures decoded or being decoded ahead of the puller
};

/// Decodes pictures ahead in worker threads and hands them out in order, one by one. Memory: at most `window` pictures.
/// One thread pulls. The source must outlive it.
class Prefetcher {
 public:
  struct Item {
    std::size_t index = 0;  // of the source
    Image image;
  };

  Prefetcher(const ImageSource& source, std::vector<std::size_t> indices, PrefetchOptions options = {});
  /// Stops the workers at once.
  ~Prefetcher();
  Prefetcher(const Prefetcher&) = delete;
  Prefetcher& operator=(const Prefetcher&) = delete;

  /// The next picture, nothing after the last. Throws what reading that very picture threw, and then always again.
  std::optional<Item> next();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace epd
