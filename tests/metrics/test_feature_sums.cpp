#include <gtest/gtest.h>

#include <limits>

#include "epd/core/error.h"
#include "metrics/support.h"

namespace epd::test {
namespace {

double gap(const at::Tensor& a, const at::Tensor& b) { return (a - b).abs().max().item<double>(); }

TEST(FeatureSums, MeanAndCovarianceAreThoseOfTheirDefinition) {
  const auto x = random_normal({50, 6}, 1);
  const auto statistics = statistics_of(x);
  const auto centred = x - x.mean(0);
  EXPECT_LT(gap(statistics.mu, x.mean(0)), 1e-14);
  EXPECT_LT(gap(statistics.sigma, centred.t().mm(centred) / 49), 1e-14);
  EXPECT_EQ(statistics.count, 50);
}

TEST(FeatureSums, PartsEqualOneBigBatch) {
  const auto x = random_normal({100, 6}, 2) + 3;
  const auto whole = statistics_of(x);
  FeatureSums sums(6);  // from empty, through parts of unequal sizes
  for (const auto& [begin, count] : {std::pair{0, 1}, {1, 40}, {41, 59}}) sums.add(x.narrow(0, begin, count));
  sums.add(x.narrow(0, 0, 0));
  EXPECT_EQ(sums.count(), 100);
  EXPECT_LT(gap(sums.statistics().mu, whole.mu), 1e-13);
  EXPECT_LT(gap(sums.statistics().sigma, whole.sigma), 1e-13);
}

TEST(FeatureSums, TheSameCallsGiveTheSameBits) {
  const auto x = random_normal({64, 6}, 3);
  EXPECT_TRUE(at::equal(statistics_of(x).sigma, statistics_of(x).sigma));
}

TEST(FeatureSums, KeepTheDigitsOfFeaturesThatHardlyVary) {
  const auto small = random_normal({40, 5}, 4) * 1e-4;
  FeatureSums sums(5);
  for (int begin = 0; begin < 40; begin += 8) sums.add(small.narrow(0, begin, 8) + 1000);
  const double relative = gap(sums.statistics().sigma, statistics_of(small).sigma) / 1e-8;
  EXPECT_LT(relative, 1e-8);  // the pictures themselves hold about nine digits; sums of squares would keep none
}

TEST(FeatureSums, ACovarianceNeedsTwoPictures) {
  FeatureSums sums(3);
  EXPECT_THROW(sums.statistics(), Error);
  sums.add(at::ones({1, 3}, at::kFloat));
  EXPECT_THROW(sums.statistics(), Error);
  sums.add(at::ones({1, 3}, at::kFloat));
  EXPECT_EQ(sums.statistics().count, 2);
}

TEST(FeatureSums, RefuseWhatIsNotFiniteOrOfAnotherWidth) {
  FeatureSums sums(2);
  EXPECT_THROW(sums.add(at::ones({4, 3})), Error);
  sums.add(at::full({4, 2}, std::numeric_limits<float>::quiet_NaN()));
  EXPECT_THROW(sums.statistics(), Error);
}

}  // namespace
}  // namespace epd::test
