#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <limits>

#include "epd/core/error.h"
#include "epd/metrics/scores.h"
#include "metrics/support.h"
#include "support/test_files.h"

namespace epd::test {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

double gap(const at::Tensor& a, const at::Tensor& b) { return (a - b).abs().max().item<double>(); }

class StatisticsFile : public ::testing::Test {
 protected:
  /// The error of reading an .npz of these arrays.
  std::string refusal(const Arrays& arrays) const {
    const auto path = folder_ / "broken.npz";
    write_npz(path, arrays);
    try {
      read_statistics(path);
    } catch (const Error& e) {
      return e.what();
    }
    return "read without complaint";
  }
  static Arrays good() {
    return {{"mu", Array::doubles({2}, {1, 2})}, {"sigma", Array::doubles({2, 2}, {2, 0.5, 0.5, 1})}};
  }
  static Arrays with(const std::string& name, const Array& array) {
    auto arrays = good();
    arrays[name] = array;
    return arrays;
  }
  TemporaryFolder folder_;
};

TEST_F(StatisticsFile, ComesBackAsItWasWritten) {
  FeatureSet set{statistics_of(random_normal({9, 4}, 1)), random_normal({9, 4}, 2).to(at::kFloat)};
  set.statistics.detector = "demo";
  set.statistics.detector_sha256 = std::string(64, 'a');
  set.statistics.source = "images";
  write_feature_set(folder_ / "s.npz", set);
  const auto read = read_feature_set(folder_ / "s.npz", true);
  EXPECT_TRUE(at::equal(read.statistics.mu, set.statistics.mu));
  EXPECT_TRUE(at::equal(read.statistics.sigma, set.statistics.sigma));
  EXPECT_TRUE(at::equal(read.features, set.features));
  EXPECT_EQ(read.statistics.count, 9);
  EXPECT_EQ(read.statistics.detector, "demo");
  EXPECT_EQ(read.statistics.detector_sha256, std::string(64, 'a'));
  EXPECT_FALSE(read_feature_set(folder_ / "s.npz", false).features.defined());
}

TEST_F(StatisticsFile, NumPysKindsAreRead) {
  const auto plain = read_statistics(golden_path("plain.npz"));
  const auto expected = statistics_of(golden("generated"));
  EXPECT_LT((plain.sigma - expected.sigma).abs().max().item<double>(), 1e-12);
  EXPECT_EQ(plain.count, 0);                                         // unknown
  const auto fortran = read_statistics(golden_path("fortran.npz"));  // big-endian mu, another array beside
  EXPECT_TRUE(at::equal(fortran.mu, plain.mu));
  EXPECT_TRUE(at::equal(fortran.sigma, plain.sigma));
  const auto compressed = read_statistics(golden_path("float32.npz"));
  EXPECT_LT((compressed.sigma - plain.sigma).abs().max().item<double>(), 1e-5);
}

TEST_F(StatisticsFile, WhatIsMissingIsNamedWithTheFile) {
  auto arrays = good();
  arrays.erase("sigma");
  EXPECT_THAT(refusal(arrays), AllOf(HasSubstr("broken.npz"), HasSubstr("no array 'sigma'"), HasSubstr("mu")));
  arrays.erase("mu");
  arrays["other"] = Array::scalar(1.0);
  EXPECT_THAT(refusal(arrays), HasSubstr("no array 'mu' (there is: other)"));
}

TEST_F(StatisticsFile, WrongShapesAndTypesAreRefused) {
  EXPECT_THAT(refusal(with("mu", Array::doubles({3}, {1, 2, 3}))), HasSubstr("'mu' has 3 features, 'sigma' 2"));
  EXPECT_THAT(refusal(with("mu", Array::doubles({1, 2}, {1, 2}))), HasSubstr("'mu' should be [features]"));
  EXPECT_THAT(refusal(with("sigma", Array::doubles({4}, {1, 0, 0, 1}))), HasSubstr("'sigma' should be"));
  EXPECT_THAT(refusal(with("sigma", Array::int64s({2, 2}, {1, 0, 0, 1}))), HasSubstr("floating-point"));
}

TEST_F(StatisticsFile, WhatIsNoCovarianceIsRefused) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THAT(refusal(with("mu", Array::doubles({2}, {1, nan}))), HasSubstr("'mu' holds NaN"));
  EXPECT_THAT(refusal(with("sigma", Array::doubles({2, 2}, {1, nan, nan, 1}))), HasSubstr("'sigma' holds NaN"));
  EXPECT_THAT(refusal(with("sigma", Array::doubles({2, 2}, {1, 0.5, 0.4, 1}))), HasSubstr("not symmetric"));
  EXPECT_THAT(refusal(with("sigma", Array::doubles({2, 2}, {1, 2, 2, 1}))), HasSubstr("eigenvalues reach from -1"));
}

TEST_F(StatisticsFile, RoundingAroundZeroIsNoReasonToRefuse) {
  EXPECT_EQ(refusal(with("sigma", Array::doubles({2, 2}, {1, 0, 0, -1e-9}))), "read without complaint");
  EXPECT_EQ(refusal(with("sigma", Array::doubles({2, 2}, {0, 0, 0, 0}))), "read without complaint");
}

TEST(SameDetector, IsAskedOfHashesExceptForPublishedNetworks) {
  const auto made = [](const std::string& name, const std::string& sha256, std::int64_t features = 3) {
    auto statistics = make_statistics(at::zeros({features}), at::eye(features));
    statistics.detector = name;
    statistics.detector_sha256 = sha256;
    return statistics;
  };
  EXPECT_NO_THROW(require_same_detector(made("demo", "a"), made("demo", "a")));
  EXPECT_NO_THROW(require_same_detector(made("demo", "a"), made("", "")));
  EXPECT_NO_THROW(require_same_detector(made("inception", "a"), made("inception", "b")));  // NVIDIA's file, an export
  EXPECT_THROW(require_same_detector(made("inception", "a"), made("inception-pytorch", "b")), Error);
  EXPECT_THROW(require_same_detector(made("features", "a"), made("features", "b")), Error);
  EXPECT_THROW(require_same_detector(made("demo", "a"), made("", "", 4)), Error);
}

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
