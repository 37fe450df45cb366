#include <gtest/gtest.h>

#include "epd/core/error.h"
#include "epd/distributed/shard.h"

namespace epd {
namespace {

TEST(Shard, ShardsAreConsecutiveCoverEverythingAndDifferByAtMostOne) {
  for (const int size : {1, 2, 3, 7}) {
    for (const std::int64_t items : {0, 1, 6, 7, 100}) {
      std::int64_t end = 0;
      for (int rank = 0; rank < size; ++rank) {
        const auto shard = shard_of(items, rank, size);
        EXPECT_EQ(shard.begin, end);
        EXPECT_GE(shard.size(), items / size);
        EXPECT_LE(shard.size(), items / size + 1);
        end = shard.end;
      }
      EXPECT_EQ(end, items) << items << " items over " << size;
    }
  }
}

TEST(Shard, RanksOutsideTheJobHaveNoShare) {
  EXPECT_THROW(shard_of(4, 2, 2), Error);
  EXPECT_THROW(shard_of(4, -1, 2), Error);
  EXPECT_THROW(shard_of(-1, 0, 2), Error);
}

}  // namespace
}  // namespace epd
