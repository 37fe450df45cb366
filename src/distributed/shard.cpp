#include "epd/distributed/shard.h"

#include <algorithm>

#include "epd/core/error.h"

namespace epd {

Shard shard_of(std::int64_t items, int rank, int size) {
  EPD_REQUIRE(items >= 0 && rank >= 0 && rank < size, "no share of ", items, " items for rank ", rank, " of ", size);
  const std::int64_t each = items / size, remainder = items % size;
  const std::int64_t begin = rank * each + std::min<std::int64_t>(rank, remainder);
  return {begin, begin + each + (rank < remainder ? 1 : 0)};
}

std::vector<Shard> passes_of(const Shard& run, std::int64_t at_once) {
  EPD_REQUIRE(at_once >= 0, "passes of ", at_once, " items");
  const std::int64_t most = at_once > 0 ? at_once : std::max<std::int64_t>(1, run.size());
  std::vector<Shard> passes;
  for (std::int64_t first = run.begin; first < run.end; first += most) {
    passes.push_back({first, std::min(first + most, run.end)});
  }
  return passes;
}

}  // namespace epd
