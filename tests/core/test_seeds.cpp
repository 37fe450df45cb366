#include <gtest/gtest.h>

#include <numeric>
#include <string>

#include "epd/core/error.h"
#include "epd/core/seeds.h"

namespace epd {
namespace {

using Seeds = std::vector<std::uint64_t>;

TEST(Seeds, ListsAndRangesKeepTheirOrder) {
  EXPECT_EQ(parse_seeds("0-3,7"), (Seeds{0, 1, 2, 3, 7}));
  EXPECT_EQ(parse_seeds("9,2-3,5"), (Seeds{9, 2, 3, 5}));
  EXPECT_EQ(parse_seeds("5"), (Seeds{5}));
  EXPECT_EQ(parse_seeds("4-4"), (Seeds{4}));
  EXPECT_EQ(parse_seeds(" 1 , 2 - 3 "), (Seeds{1, 2, 3}));
}

TEST(Seeds, TheLargestSeedIsTheLargest32BitNumber) {
  EXPECT_EQ(parse_seeds("4294967294-4294967295"), (Seeds{4294967294u, 4294967295u}));
  EXPECT_THROW(parse_seeds("4294967296"), UsageError);
  EXPECT_THROW(parse_seeds("99999999999999999999999"), UsageError);
}

TEST(Seeds, MistakesAreUsageErrorsOfOneLine) {
  for (const char* list : {"",      " ",   "5-3", "a",  "-3",  "1,-3", "1,,2",  "1,",    ",1",  "1-",          "-",
                           "1-2-3", "1.5", "0x3", "+1", "1;2", "1,1",  "0-5,3", "7,0-9", "5-a", "0-4294967295"}) {
    try {
      parse_seeds(list);
      ADD_FAILURE() << "accepted '" << list << "'";
    } catch (const UsageError& e) {
      EXPECT_EQ(std::string(e.what()).find('\n'), std::string::npos);
      EXPECT_EQ(std::string(e.what()).rfind("seeds: ", 0), 0u) << e.what();
      EXPECT_EQ(e.exit_code(), 2);
    }
  }
}

TEST(Seeds, AnErrorShowsTheSeedThatStandsTwice) {
  try {
    parse_seeds("7,0-9");
    ADD_FAILURE();
  } catch (const UsageError& e) {
    EXPECT_EQ(std::string(e.what()), "seeds: 7 appears twice in '7,0-9'");
  }
}

TEST(Seeds, TheirTextReadsAsTheSameSeeds) {
  for (const char* list : {"0-3,7", "9,2-3,5", "5", "3,2,1", "0-1", "4294967295", "1,3,5"}) {
    EXPECT_EQ(seeds_text(parse_seeds(list)), list);
  }
  EXPECT_EQ(seeds_text({}), "");
  Seeds many(50'000);
  std::iota(many.begin(), many.end(), 0);
  EXPECT_EQ(seeds_text(many), "0-49999");
  EXPECT_EQ(parse_seeds("0-49999"), many);
}

}  // namespace
}  // namespace epd
