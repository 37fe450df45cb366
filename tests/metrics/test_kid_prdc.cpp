#include <gtest/gtest.h>

#include <vector>

#include "epd/core/error.h"
#include "epd/metrics/kid_prdc.h"
#include "epd/metrics/random_state.h"
#include "metrics/support.h"

namespace epd::test {
namespace {

TEST(Kid, AgreesWithTorchFidelity) {
  const auto expected = golden("kid");  // subsets of 20, and of all 60
  for (const auto& [row, size] : {std::pair{0, 20}, {1, 60}}) {
    const auto kid = kernel_distance(golden("generated"), golden("real"), {.subsets = 10, .subset_size = size});
    EXPECT_NEAR(kid.mean, expected[row][0].item<double>(), 1e-10);
    EXPECT_NEAR(kid.deviation, expected[row][1].item<double>(), 1e-10);
  }
}

// Few large subsets take their own rows, many share the kernel of whole sets; both in blocks of rows.
TEST(Kid, IsTheMeanOverItsSubsetsHoweverTheyAreComputed) {
  const auto generated = random_normal({1100, 3}, 5), real = random_normal({1300, 3}, 6) + 0.1;
  for (const auto& [subsets, size] : {std::pair{12, 600}, {2, 600}, {1, 1050}}) {
    RandomState random(2020);
    std::vector<double> values;
    for (int i = 0; i < subsets; ++i) {
      const auto draw = [&, rows = size](const at::Tensor& features) {
        const auto chosen = random.choice(static_cast<std::size_t>(features.size(0)), static_cast<std::size_t>(rows));
        const std::vector<std::int64_t> index(chosen.begin(), chosen.end());
        return features.index_select(0, at::tensor(index)).to(at::kDouble);
      };
      const auto x = draw(generated), y = draw(real);
      const auto k = [](const at::Tensor& a, const at::Tensor& b) { return (a.mm(b.t()) / 3 + 1).pow(3); };
      const auto within = [&](const at::Tensor& a) { return (k(a, a).sum() - k(a, a).trace()) / (size * (size - 1)); };
      values.push_back((within(x) + within(y) - 2 * k(x, y).mean()).item<double>());
    }
    const auto kid = kernel_distance(generated, real, {.subsets = subsets, .subset_size = size});
    const auto expected = at::tensor(values, at::kDouble);
    EXPECT_NEAR(kid.mean, expected.mean().item<double>(), 1e-12) << subsets << " of " << size;
    EXPECT_NEAR(kid.deviation, expected.std(false).item<double>(), 1e-12) << subsets << " of " << size;
  }
}

TEST(Kid, IsUnbiasedWhereBothSetsComeFromOneDistribution) {
  const auto kid = kernel_distance(random_normal({2000, 4}, 1), random_normal({2000, 4}, 2), {.subset_size = 200});
  EXPECT_NEAR(kid.mean, 0, 0.02);  // 100 subsets; a biased estimate would be about +0.1
  EXPECT_EQ(kid.subset_size, 200);
}

TEST(Kid, TakesAllPicturesOfASmallSet) {
  EXPECT_EQ(kernel_distance(random_normal({30, 4}, 1), random_normal({50, 4}, 2), {.subsets = 2}).subset_size, 30);
  EXPECT_THROW(kernel_distance(random_normal({1, 4}, 1), random_normal({50, 4}, 2)), Error);
}

TEST(Prdc, AgreesWithThePrdcPackage) {
  const auto expected = golden("prdc");
  const auto found = prdc(golden("generated"), golden("real"));
  EXPECT_DOUBLE_EQ(found.precision, expected[0].item<double>());
  EXPECT_DOUBLE_EQ(found.recall, expected[1].item<double>());
  EXPECT_NEAR(found.density, expected[2].item<double>(), 1e-12);
  EXPECT_DOUBLE_EQ(found.coverage, expected[3].item<double>());
}

TEST(Prdc, ModeCollapseKeepsPrecisionAndLosesRecall) {
  const auto real = random_normal({300, 2}, 3);
  const auto collapsed = random_normal({300, 2}, 4) * 0.01;
  const auto found = prdc(collapsed, real);
  EXPECT_GT(found.precision, 0.95);
  EXPECT_LT(found.recall, 0.05);
  EXPECT_LT(found.coverage, 0.2);
}

TEST(Prdc, FarPicturesScoreNothing) {
  const auto found = prdc(random_normal({50, 2}, 5) + 100, random_normal({50, 2}, 6));
  EXPECT_EQ(found.precision + found.recall + found.density + found.coverage, 0);
}

TEST(Prdc, LargeSetsAreBoundedByANamedSubset) {
  const auto found = prdc(random_normal({50, 2}, 5), random_normal({40, 2}, 6), {.max_pictures = 30});
  EXPECT_EQ(found.num_generated, 30);
  EXPECT_EQ(found.num_real, 30);
}

TEST(Prdc, NeedsMorePicturesThanNeighbours) {
  EXPECT_THROW(prdc(random_normal({5, 2}, 5), random_normal({40, 2}, 6)), Error);
}

TEST(NearestNeighbours, AreThoseOfAllDistances) {
  const auto queries = random_normal({1500, 3}, 7), points = random_normal({200, 3}, 8);
  const auto found = nearest_neighbours(queries, points);
  const auto [distance, index] = at::cdist(queries, points).min(1);
  EXPECT_TRUE(at::equal(found.index, index));
  EXPECT_LT((found.distance - distance).abs().max().item<double>(), 1e-7);
}

}  // namespace
}  // namespace epd::test
