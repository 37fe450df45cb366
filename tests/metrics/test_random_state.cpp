#include <gtest/gtest.h>

#include "epd/metrics/random_state.h"
#include "metrics/support.h"

namespace epd::test {
namespace {

std::vector<std::size_t> golden_numbers(const std::string& name) {
  const auto values = golden(name);
  const auto* begin = values.data_ptr<double>();
  return {begin, begin + values.numel()};
}

TEST(RandomState, PermutesAndChoosesAsNumPyDoes) {
  RandomState random(2020);
  EXPECT_EQ(random.permutation(50), golden_numbers("permutation"));
  EXPECT_EQ(random.choice(1000, 20), golden_numbers("choice"));
}

TEST(RandomState, SubsetsAreThoseOfEdmsTools) { EXPECT_EQ(random_subset(60000, 100, 7), golden_numbers("subset")); }

TEST(RandomState, TheTwistersPublishedFirstNumber) {
  EXPECT_EQ(RandomState(5489).next(), 3499211612u);  // Matsumoto and Nishimura's default seed
}

TEST(RandomState, EverySeedOf32BitsIsNumPys) {
  EXPECT_EQ(RandomState(0).next(), 2357136044u);  // np.random.RandomState(seed).randint(2**32, dtype=np.uint32)
  EXPECT_EQ(RandomState(4294967295u).next(), 419326371u);
}

TEST(RandomState, ASubsetOfEverythingIsEverything) {
  EXPECT_EQ(random_subset(3, 3, 1), (std::vector<std::size_t>{0, 1, 2}));
  EXPECT_EQ(random_subset(2, 10, 1), (std::vector<std::size_t>{0, 1}));
}

}  // namespace
}  // namespace epd::test
