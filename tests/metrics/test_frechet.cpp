#include <gtest/gtest.h>

#include <cmath>

#include "epd/core/error.h"
#include "epd/metrics/frechet.h"
#include "metrics/support.h"

namespace epd::test {
namespace {

constexpr std::int64_t kFeatures = 40;

at::Tensor zeros() { return at::zeros({kFeatures}, at::kDouble); }

at::Tensor falling(double exponent) { return at::arange(1, kFeatures + 1, at::kDouble).pow(-exponent); }

void expect_relative(double value, double expected, double tolerance) {
  EXPECT_NEAR(value, expected, tolerance * std::abs(expected));
}

TEST(Frechet, EqualCovariancesLeaveTheSquaredGapOfTheMeans) {
  const auto sigma = with_eigenvalues(falling(1), random_rotation(kFeatures, 1));
  const auto gap = random_normal({kFeatures}, 2);
  const double distance = frechet_distance(make_statistics(zeros(), sigma), make_statistics(gap, sigma));
  expect_relative(distance, gap.square().sum().item<double>(), 1e-12);
}

TEST(Frechet, CommutingCovariancesGiveTheSquaredGapsOfTheRootsOfTheirEigenvalues) {
  const auto rotation = random_rotation(kFeatures, 3);
  const auto a = falling(1), b = falling(2).flip(0);
  const double distance = frechet_distance(make_statistics(zeros(), with_eigenvalues(a, rotation)),
                                           make_statistics(zeros(), with_eigenvalues(b, rotation)));
  expect_relative(distance, (a.sqrt() - b.sqrt()).square().sum().item<double>(), 1e-10);
}

// Roots of small eigenvalues lose half their digits unless they are found apart from the large ones.
TEST(Frechet, IsExactForCovariancesOfLargeConditionNumbers) {
  const auto rotation = random_rotation(kFeatures, 13);
  for (const double condition : {1e3, 1e7, 1e8, 1e9, 1e10, 1e11}) {
    const auto a = at::logspace(0, -std::log10(condition), kFeatures, 10, at::kDouble), b = 2 * a.sqrt();
    for (const auto& [x, y] : {std::pair{a, b}, {a, a}, {b, a}}) {
      const double distance = frechet_distance(make_statistics(zeros(), with_eigenvalues(x, rotation)),
                                               make_statistics(zeros(), with_eigenvalues(y, rotation)));
      EXPECT_NEAR(distance, (x.sqrt() - y.sqrt()).square().sum().item<double>(), 1e-10) << condition;
    }
  }
}

TEST(Frechet, IsExactForSingularCovariancesOfWhateverOverlap) {
  const auto rotation = random_rotation(kFeatures, 4);
  for (const std::int64_t overlap : {0, 5, 20}) {
    auto a = falling(1), b = falling(0.5);
    a.narrow(0, 20, 20).zero_();           // rank 20
    b.narrow(0, 0, 20 - overlap).zero_();  // shares `overlap` directions with a
    b.narrow(0, 40 - overlap, overlap).zero_();
    const double distance = frechet_distance(make_statistics(zeros(), with_eigenvalues(a, rotation)),
                                             make_statistics(zeros(), with_eigenvalues(b, rotation)));
    expect_relative(distance, (a.sqrt() - b.sqrt()).square().sum().item<double>(), 1e-10);
  }
}

TEST(Frechet, IsExactForFewerPicturesThanFeatures) {
  const auto x = golden("generated").narrow(0, 0, 8), y = golden("real").narrow(0, 0, 5);
  const double expected = golden("frechet_singular").item<double>();
  auto a = statistics_of(x), b = statistics_of(y);
  expect_relative(frechet_distance(a, b), expected, 1e-10);
  a.count = b.count = 0;  // as in files that do not say
  const auto terms = frechet_terms(a, b);
  expect_relative(terms.distance(), expected, 1e-10);
  EXPECT_EQ(terms.rank_a, 7);
  EXPECT_EQ(terms.rank_b, 4);
}

TEST(Frechet, AgreesWithSciPysMatrixRootAtFullRank) {
  const double distance = frechet_distance(statistics_of(golden("generated")), statistics_of(golden("real")));
  expect_relative(distance, golden("frechet").item<double>(), 1e-6);
}

TEST(Frechet, IsZeroForEqualStatisticsUpToRounding) {
  for (const std::int64_t count : {10, 200}) {  // singular and regular
    const auto statistics = statistics_of(random_normal({count, kFeatures}, 5));
    EXPECT_NEAR(frechet_distance(statistics, statistics), 0, 1e-11);
  }
}

TEST(Frechet, DoesNotDependOnTheOrderOfTheTwo) {
  const auto a = statistics_of(random_normal({30, kFeatures}, 6)), b = statistics_of(random_normal({90, kFeatures}, 7));
  expect_relative(frechet_distance(a, b), frechet_distance(b, a), 1e-11);
}

TEST(Frechet, IgnoresFeaturesThatNeverChange) {
  auto x = random_normal({50, kFeatures}, 8), y = random_normal({60, kFeatures}, 9);
  const double without = frechet_distance(statistics_of(x.narrow(1, 0, 30)), statistics_of(y.narrow(1, 0, 30)));
  x.narrow(1, 30, 10).fill_(0.3);
  y.narrow(1, 30, 10).fill_(0.3);
  expect_relative(frechet_distance(statistics_of(x), statistics_of(y)), without, 1e-8);
}

TEST(Frechet, HoldsWhereScalesOfFeaturesDifferByMillions) {
  const auto scales = at::linspace(-6, 6, kFeatures, at::kDouble).exp2().pow(3);
  const auto a = falling(1), b = falling(1.5);
  const double distance = frechet_distance(make_statistics(zeros(), (a * scales.square()).diag()),
                                           make_statistics(zeros(), (b * scales.square()).diag()));
  expect_relative(distance, ((a.sqrt() - b.sqrt()) * scales).square().sum().item<double>(), 1e-12);
}

TEST(Frechet, RefusesDifferentNumbersOfFeatures) {
  EXPECT_THROW(frechet_distance(statistics_of(random_normal({9, 4}, 1)), statistics_of(random_normal({9, 5}, 1))),
               Error);
}

TEST(GramFactor, ReproducesTheMatrixAndRevealsItsRank) {
  const auto rotation = random_rotation(300, 10);  // larger than a panel of the factorisation
  for (const std::int64_t rank : {1, 95, 96, 97, 250, 300}) {
    auto values = at::arange(1, 301, at::kDouble).reciprocal();
    values.narrow(0, rank, 300 - rank).zero_();
    const auto sigma = with_eigenvalues(values, rotation);
    const auto factor = gram_factor(sigma, 300);
    EXPECT_EQ(factor.size(0), rank);
    EXPECT_LT((factor.t().mm(factor) - sigma).abs().max().item<double>(), 1e-13);
  }
}

TEST(GramFactor, TakesTheNearestCovarianceWhereStoredDigitsWereFew) {
  auto values = at::arange(1, 101, at::kDouble).reciprocal();
  values.narrow(0, 50, 50).zero_();
  const auto sigma = with_eigenvalues(values, random_rotation(100, 11)).to(at::kFloat).to(at::kDouble);
  const auto factor = gram_factor(sigma, 100);
  EXPECT_LT((factor.t().mm(factor) - sigma).abs().max().item<double>(), 1e-6);
}

}  // namespace
}  // namespace epd::test
