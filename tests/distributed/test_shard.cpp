#include <gtest/gtest.h>

#include <string>
#include <vector>

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

TEST(Shard, TheSharesOfAListAreThatList) {
  const std::vector<std::string> list{"a", "b", "c", "d", "e"};
  std::vector<std::string> all;
  for (int rank = 0; rank < 3; ++rank) {
    for (const auto& item : share_of(list, rank, 3)) all.push_back(item);
  }
  EXPECT_EQ(all, list);
  EXPECT_TRUE(share_of(list, 6, 7).empty());
}

TEST(Shard, PassesAreFullButForTheLast) {
  EXPECT_EQ(passes_of({3, 10}, 3), (std::vector<Shard>{{3, 6}, {6, 9}, {9, 10}}));
  EXPECT_EQ(passes_of({3, 9}, 3), (std::vector<Shard>{{3, 6}, {6, 9}}));
  EXPECT_EQ(passes_of({3, 10}, 0), (std::vector<Shard>{{3, 10}}));
  EXPECT_EQ(passes_of({3, 10}, 100), (std::vector<Shard>{{3, 10}}));
  EXPECT_TRUE(passes_of({3, 3}, 0).empty());
  EXPECT_THROW(passes_of({3, 10}, -1), Error);
}

}  // namespace
}  // namespace epd
