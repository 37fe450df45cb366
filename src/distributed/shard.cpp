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

}  // namespace epd
