#include "epd/images/image_queue.h"

#include <algorithm>
#include <utility>

namespace epd {
namespace {

std::size_t num_threads(const PrefetchOptions& options, std::size_t num_images) {
  return std::clamp<std::size_t>(static_cast<std::size_t>(std::max(options.threads, 1)), 1,
                                 std::max<std::size_t>(num_images, 1));
}

}  // namespace

Prefetcher::Prefetcher(const ImageSource& source, std::vector<std::size_t> indices, PrefetchOptions options)
    : source_(source),
      indices_(std::move(indices)),
      window_(std::max(options.window, num_threads(options, indices_.size()))),
      pool_(num_threads(options, indices_.size())) {
  fill_window();
}

void Prefetcher::fill_window() {
  while (ahead_.size() < window_ && next_ + ahead_.size() < indices_.size()) {
    const std::size_t index = indices_[next_ + ahead_.size()];
    ahead_.push_back(pool_.submit([this, index] { return source_.load(index); }));
  }
}

std::optional<Prefetcher::Item> Prefetcher::next() {
  if (failure_) std::rethrow_exception(failure_);
  if (ahead_.empty()) return std::nullopt;
  try {
    Item item{indices_[next_], ahead_.front().get()};
    ahead_.pop_front();
    ++next_;
    fill_window();
    return item;
  } catch (...) {
    failure_ = std::current_exception();
    throw;
  }
}

}  // namespace epd
