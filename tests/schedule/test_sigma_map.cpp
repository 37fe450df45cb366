#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "epd/core/error.h"
#include "epd/schedule/sigma_map.h"

namespace epd {
namespace {

/// Latent and Stable Diffusion's: beta_m between the squares of evenly spaced roots.
std::vector<double> scaled_linear_table(double first, double last, int size = 1000) {
  std::vector<double> table;
  double product = 1;
  for (int m = 0; m < size; ++m) {
    const double root = std::sqrt(first) + (std::sqrt(last) - std::sqrt(first)) * m / (size - 1);
    table.push_back(product *= 1 - root * root);
  }
  return table;
}

TEST(VpSigmaMap, IsTheVariancePreservingClock) {
  const VpSigmaMap map(19.9, 0.1);
  EXPECT_NEAR(map.sigma(1), std::sqrt(std::exp(19.9 / 2 + 0.1) - 1), 1e-11);
  EXPECT_NEAR(map.sigma(1e-3), 0.0104860, 5e-8);  // guided diffusion's smallest noise level
}

TEST(VpSigmaMap, InvertsItself) {
  for (const auto& map : {VpSigmaMap(19.9, 0.1), VpSigmaMap::between(0.002, 80), VpSigmaMap::between(0.1, 80)}) {
    for (const double u : {1e-3, 0.01, 0.3, 0.7, 1.0}) EXPECT_NEAR(map.u(map.sigma(u)), u, 1e-11) << u;
  }
}

TEST(VpSigmaMap, BetweenRunsThroughBothEnds) {
  for (const double low : {1e-4, 0.002, 0.0388, 0.1}) {
    const auto map = VpSigmaMap::between(low, 80);
    EXPECT_NEAR(map.sigma(1e-3), low, 1e-9);
    EXPECT_NEAR(map.sigma(1), 80, 1e-10);
  }
}

TEST(VpSigmaMap, RefusesAClockThatDoesNotGrow) {
  EXPECT_THROW(VpSigmaMap(-10, 0.1), Error);
  EXPECT_THROW(VpSigmaMap(0, 0), Error);
  EXPECT_THROW(VpSigmaMap(std::nan(""), 0.1), Error);
  EXPECT_THROW(VpSigmaMap::between(1, 80), UsageError);
}

TEST(TableSigmaMap, GoesThroughItsEntriesAndLinearlyBetween) {
  const std::vector<double> table{0.9, 0.5, 0.1};
  const TableSigmaMap map(table);
  for (std::size_t m = 0; m < table.size(); ++m) {
    EXPECT_NEAR(map.sigma((m + 1) / 3.0), std::sqrt((1 - table[m]) / table[m]), 1e-12) << m;
  }
  const double between = std::exp((std::log(0.9) + std::log(0.5)) / 2);  // alpha^2, in the middle of the logarithms
  EXPECT_NEAR(map.sigma(0.5), std::sqrt((1 - between) / between), 1e-12);
}

TEST(TableSigmaMap, ReachesLinearlyPastBothEnds) {
  const TableSigmaMap map({0.9, 0.5, 0.1});
  const double after = 0.1 * 0.1 / 0.5, before = 0.95;  // alpha^2
  EXPECT_NEAR(map.sigma(4.0 / 3), std::sqrt((1 - after) / after), 1e-12);
  const double u = (1 + std::log(before / 0.9) / std::log(0.5 / 0.9)) / 3;
  EXPECT_NEAR(map.sigma(u), std::sqrt((1 - before) / before), 1e-12);
  EXPECT_NEAR(map.u(std::sqrt((1 - before) / before)), u, 1e-12);
}

TEST(TableSigmaMap, InvertsItself) {
  const TableSigmaMap map(scaled_linear_table(0.0015, 0.0195));
  for (const double u : {1e-4, 1e-3, 0.0015, 0.01, 0.1234, 0.5, 0.777, 1.0, 1.05}) {
    EXPECT_NEAR(map.u(map.sigma(u)), u, 1e-11) << u;
  }
}

TEST(TableSigmaMap, GivesThePublishedRangeOfLatentDiffusion) {
  const TableSigmaMap map(scaled_linear_table(0.0015, 0.0195));
  EXPECT_NEAR(map.sigma(1e-3) / 0.03875904902815819, 1, 1e-5);  // published in float32
  EXPECT_NEAR(map.sigma(1) / 83.82247924804688, 1, 1e-6);
}

TEST(TableSigmaMap, RefusesTablesThatDoNotFallWithinZeroAndOne) {
  for (const auto& bad : std::vector<std::vector<double>>{
           {}, {0.5}, {0.5, 0.5}, {0.5, 0.6}, {1, 0.5}, {0.5, 0}, {0.5, -0.1}, {0.5, std::nan("")}}) {
    EXPECT_THROW(TableSigmaMap{bad}, Error);
  }
}

TEST(SigmaMap, IsMadeFromTheModelsFacts) {
  EXPECT_EQ(make_sigma_map(Noise{}), nullptr);
  EXPECT_EQ(make_sigma_map(VpNoise{19.9, 0.1})->sigma(0.5), VpSigmaMap(19.9, 0.1).sigma(0.5));
  EXPECT_EQ(make_sigma_map(TableNoise{{0.9, 0.5}})->sigma(0.5), TableSigmaMap({0.9, 0.5}).sigma(0.5));
}

}  // namespace
}  // namespace epd
