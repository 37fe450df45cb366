#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "epd/evaluation/compare.h"

namespace epd {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

CompareRow row(const std::string& solver, const std::string& schedule, int nfe, double rmse, bool learned = false) {
  CompareRow result;
  result.solver = solver;
  result.schedule = schedule;
  result.learned = learned;
  result.nfe = nfe;
  result.evaluations = learned ? 2 * nfe - 1 : nfe;
  result.rmse = rmse;
  result.fd_exact = 100 * rmse;
  return result;
}

int count(const std::string& text, const std::string& piece) {
  int found = 0;
  for (auto at = text.find(piece); at != text.npos; at = text.find(piece, at + 1)) ++found;
  return found;
}

TEST(Chart, DrawsALineForEveryFamilyAndAMarkForEveryRow) {
  const auto chart = comparison_chart({row("dpmpp(3)", "logsnr", 3, 0.4), row("dpmpp(3)", "logsnr", 5, 0.2),
                                       row("dpmpp(3)", "time_uniform", 3, 0.3), row("ns", "learned", 5, 0.1, true),
                                       row("ns", "other", 3, 0.2, true), row("exact ODE", "polynomial 7", 24, 0)});
  EXPECT_EQ(count(chart, "<polyline class='c"), 3 * 4);     // error or distance, against one count or the other
  EXPECT_EQ(count(chart, "<polyline class='legend"), 3);    // and one for each family in the legend
  EXPECT_EQ(count(chart, "<path class='mark"), 5 * 4 + 3);  // in four panels, and in the legend
  EXPECT_THAT(chart, HasSubstr(">dpmpp(3), logsnr<"));
  EXPECT_THAT(chart, HasSubstr(">ns<"));
  EXPECT_THAT(chart, Not(HasSubstr("exact ODE")));
}

TEST(Chart, PutsTheBetterRowLower) {
  const auto chart = comparison_chart({row("a", "logsnr", 3, 0.4), row("b", "logsnr", 3, 0.1)});
  const auto height_of = [&](std::size_t from) {
    const auto place = chart.find("translate(", from);
    return std::stod(chart.substr(chart.find(' ', place)));
  };
  const auto first = chart.find("<path class='mark"), second = chart.find("<path class='mark", first + 1);
  EXPECT_LT(height_of(first), height_of(second));
}

TEST(Chart, FamiliesOfOneColourDifferInLineAndMark) {
  std::vector<CompareRow> rows;
  for (int i = 0; i < 8; ++i) rows.push_back(row(std::string(1, static_cast<char>('a' + i)), "logsnr", 3, 0.1));
  const auto chart = comparison_chart(rows);    // seven colours
  EXPECT_EQ(count(chart, "c0'"), 3 * (4 + 1));  // a line and two marks
  EXPECT_EQ(count(chart, " dashed'"), 4 + 1);
  EXPECT_EQ(count(chart, "<path class='mark hollow c0'"), 4 + 1);
  const auto shape_of = [&](const std::string& mark) { return chart.substr(chart.find("d='", chart.find(mark)), 12); };
  EXPECT_NE(shape_of("<path class='mark c0'"), shape_of("<path class='mark hollow c0'"));
}

TEST(Chart, HasRoundTicksHoweverNarrowOrWideTheRange) {
  for (const auto& [low, high] : {std::pair{0.11, 0.12}, {0.1, 0.4}, {0.02, 3.0}, {1e-9, 5.0}, {3.0, 3.0}}) {
    const auto chart = comparison_chart({row("a", "logsnr", 3, low), row("b", "logsnr", 3, high)});
    const int ticks = count(chart, "text-anchor='end'") / 4;
    EXPECT_GE(ticks, 3) << low << " to " << high;
    EXPECT_LE(ticks, 12) << low << " to " << high;
  }
}

TEST(Chart, FollowsTheReadersColoursAndNamesOnlyCoordinatesThatAreNumbers) {
  const auto chart = comparison_chart({row("a", "logsnr", 1, 0.4)});
  EXPECT_THAT(chart, HasSubstr("prefers-color-scheme: dark"));
  EXPECT_THAT(chart, Not(HasSubstr("nan")));
  EXPECT_THAT(chart, Not(HasSubstr("inf")));
}

TEST(Chart, NamesCannotBreakIt) {
  EXPECT_THAT(comparison_chart({row("a<b&c", "logsnr", 3, 0.4)}), HasSubstr("a&lt;b&amp;c"));
  EXPECT_THAT(comparison_chart({}), HasSubstr("</svg>"));
}

}  // namespace
}  // namespace epd
