#pragma once

#include <cstddef>
#include <deque>
#include <exception>
#include <future>
#include <optional>
#include <vector>

#include "epd/core/thread_pool.h"
#include "epd/images/image.h"
#include "epd/images/image_source.h"

namespace epd {

struct PrefetchOptions {
  int threads = 2;
  std::size_t window = 64;  // images decoded or being decoded ahead of the puller
};

/// Decodes images ahead in worker threads and hands them out in order, one by one. Memory: at most `window` images. One
/// thread pulls. The source must outlive it. Its end stops the workers at once.
class Prefetcher {
 public:
  struct Item {
    std::size_t index = 0;  // of the source
    Image image;
  };

  Prefetcher(const ImageSource& source, std::vector<std::size_t> indices, PrefetchOptions options = {});

  /// The next image, nothing after the last. Throws what reading that very image threw, and then always again.
  std::optional<Item> next();

 private:
  void fill_window();

  const ImageSource& source_;
  const std::vector<std::size_t> indices_;
  const std::size_t window_;
  std::size_t next_ = 0;                  // the position in indices_ that is handed out next
  std::deque<std::future<Image>> ahead_;  // the images from there on
  std::exception_ptr failure_;
  ThreadPool pool_;  // last, so that its threads end first
};

}  // namespace epd
