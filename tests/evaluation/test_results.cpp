#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <nlohmann/json.hpp>

#include "epd/evaluation/compare.h"
#include "epd/images/image.h"

namespace epd {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(Results, HasExactlyTheseFieldsAndNoNumberWhereThereIsNone) {
  CompareRow row{"euler", "polynomial 7", 5, 5, 0.25, 3, std::numeric_limits<double>::quiet_NaN(), 12};
  const auto json = nlohmann::json::parse(comparison_json({row, row}));
  EXPECT_EQ(json.size(), 1U);
  ASSERT_EQ(json.at("rows").size(), 2U);
  const nlohmann::json expected = {{"solver", "euler"},  {"schedule", "polynomial 7"},
                                   {"nfe", 5},           {"evaluations", 5},
                                   {"rmse", 0.25},       {"fd_exact", 3},
                                   {"fd_data", nullptr}, {"images_per_second", 12}};
  EXPECT_EQ(json.at("rows")[0], expected);
  EXPECT_THAT(comparison_table({row}), HasSubstr("| euler  | polynomial 7 |   5 |                 5 | 0.2500 |"));
}

/// A row whose images are of one grey value, by which they are found again.
void add_row(Comparison& comparison, double rmse, std::uint8_t grey, bool learned = false, int size = 32) {
  CompareRow row{"solver", "logsnr", 5, 5, rmse};
  row.learned = learned;
  comparison.rows.push_back(row);
  comparison.images.push_back({Image(size, size, 3, grey), Image(size, size, 3, grey)});
}

/// The grey values of the rows, from above, at the image's right.
std::vector<int> greys(const Image& image) {
  std::vector<int> found;
  for (int y = 0; y < image.height; ++y) {
    const int value = image.row(y)[3 * (image.width - 20)];
    if (value != 255 && (found.empty() || found.back() != value)) found.push_back(value);
  }
  return found;
}

Comparison four_rows(int size = 32) {
  Comparison comparison;
  add_row(comparison, 0.3, 30, false, size);
  add_row(comparison, 0.1, 10, false, size);
  add_row(comparison, 0.2, 20, true, size);
  add_row(comparison, 0, 1, false, size);
  return comparison;
}

TEST(ComparisonImage, BeginsWithTheReferenceAndGoesOnByRisingRmse) {
  EXPECT_THAT(greys(comparison_image(four_rows(), 0)), ElementsAre(1, 10, 20, 30));
  EXPECT_THAT(greys(comparison_image(four_rows(), 4)), ElementsAre(1, 10, 20, 30));
}

TEST(ComparisonImage, ShowsLearnedRowsFirstOfAllAndSpreadsTheOthers) {
  EXPECT_THAT(greys(comparison_image(four_rows(), 1)), ElementsAre(1));
  EXPECT_THAT(greys(comparison_image(four_rows(), 2)), ElementsAre(1, 20));
  EXPECT_THAT(greys(comparison_image(four_rows(), 3)), ElementsAre(1, 10, 20));
  Comparison many;
  for (const int i : {4, 2, 9, 7, 3, 8, 1, 6, 5}) add_row(many, i, static_cast<std::uint8_t>(10 * i), i == 4);
  add_row(many, 0, 1);
  EXPECT_THAT(greys(comparison_image(many, 5)), ElementsAre(1, 10, 40, 60, 90));
  EXPECT_EQ(greys(comparison_image(many, 8)).size(), 8U);
}

TEST(ComparisonImage, EnlargesSmallImagesByAWholeNumberAndLeavesLargeOnesAsTheyAre) {
  for (const auto& [size, shown] : {std::pair{32, 64}, {28, 84}, {64, 64}, {100, 100}}) {
    const auto image = comparison_image(four_rows(size), 0);
    int rows = 0, columns = 0;  // of the darkest grey
    for (int y = 0; y < image.height; ++y) rows += image.row(y)[3 * (image.width - 20)] == 30;
    for (int x = 0; x < image.width; ++x) columns += image.row(image.height - 20)[3 * x] == 30;
    EXPECT_EQ(rows, shown) << size;
    EXPECT_GE(columns, 2 * shown) << size;
  }
}

TEST(Label, TextIsDrawnWhereItIsAskedForAndCutOffAtTheEdges) {
  const int width = text_width("NFE 5", 16);
  EXPECT_GT(width, 25);
  EXPECT_EQ(text_width("", 16), 0);
  EXPECT_NEAR(text_width("NFE 5", 32), 2 * width, 2);
  Image image(40, 80, 3, 255);
  draw_text("NFE 5", 16, 10, 8, {200, 0, 0}, image);
  int inked = 0, outside = 0;
  for (int y = 0; y < image.height; ++y) {
    for (int x = 0; x < image.width; ++x) {
      const bool ink = image.row(y)[3 * x + 1] < 255;
      inked += ink;
      outside += ink && (y < 10 || y >= 26 || x < 8 || x > 8 + width);
      EXPECT_GE(image.row(y)[3 * x], 200);
    }
  }
  EXPECT_GT(inked, 60);
  EXPECT_EQ(outside, 0);
  for (const auto& [top, left] : {std::pair{-8, -20}, {34, 70}, {100, 100}, {-100, 3}}) {
    EXPECT_NO_THROW(draw_text("NFE 5\t\xff", 16, top, left, {0, 0, 0}, image));
  }
}

TEST(Label, AnImageIsPastedAndCutOffAtTheEdges) {
  Image image(4, 5, 3, 0);
  paste(Image(2, 3, 3, 9), 3, 3, image);
  EXPECT_EQ(image.row(3)[3 * 4], 9);
  EXPECT_EQ(image.row(3)[3 * 2], 0);
  paste(Image(2, 3, 3, 7), -1, -2, image);
  EXPECT_EQ(image.row(0)[0], 7);
  EXPECT_EQ(image.row(0)[3], 0);
  EXPECT_EQ(image.row(1)[0], 0);
  EXPECT_NO_THROW(paste(Image(2, 3, 3, 7), 50, -70, image));
}

}  // namespace
}  // namespace epd
