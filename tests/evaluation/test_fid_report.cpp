#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <regex>
#include <vector>

#include "epd/evaluation/run_fid.h"
#include "epd/images/html.h"
#include "metrics/support.h"
#include "support/test_files.h"

namespace epd::test {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

/// Pictures of noise, numbered from `first`.
class NoisePictures : public ImageSource {
 public:
  NoisePictures(std::size_t count, unsigned first, int size) : first_(first), size_(size) {
    for (std::size_t i = 0; i < count; ++i) names_.push_back(text("<", first + i, ">.png"));
  }
  std::size_t size() const override { return names_.size(); }
  const std::string& name(std::size_t i) const override { return names_.at(i); }
  Image load(std::size_t i) const override { return noise(size_, size_, 3, first_ + static_cast<unsigned>(i)); }
  std::optional<int> label(std::size_t) const override { return {}; }

 private:
  unsigned first_;
  int size_;
  std::vector<std::string> names_;
};

ImageSet pictures(std::size_t count, unsigned first, int size = 4) {
  ImageSet set;
  set.source = std::make_shared<NoisePictures>(count, first, size);
  for (std::size_t i = 0; i < count; ++i) set.indices.push_back(i);
  set.data.features = random_normal({static_cast<std::int64_t>(count), 6}, first).to(at::kFloat);
  set.data.statistics = statistics_of(set.data.features);
  set.data.statistics.source = first < 100 ? "the <real>" : "generated & co";
  set.data.statistics.detector = "demo";
  return set;
}

std::string page(const ImageSet& generated, const ImageSet& reference) {
  const auto scores = score(generated.data, reference.data, Metrics::parse("fid,kid,prdc"));
  return report_page(scores, generated, reference, scores.json());
}

std::size_t count(const std::string& page, const std::string& expression) {
  const std::regex regex(expression);
  return static_cast<std::size_t>(std::distance(std::sregex_iterator(page.begin(), page.end(), regex), {}));
}

TEST(Report, NeedsNoOtherFile) {
  const auto html = page(pictures(90, 100), pictures(70, 0));
  EXPECT_THAT(html, Not(HasSubstr("http")));
  EXPECT_THAT(html, Not(HasSubstr("<script")));
  EXPECT_THAT(html, Not(HasSubstr("url(")));
  EXPECT_EQ(count(html, "src=\""), count(html, "src=\"data:image/png;base64,"));
  EXPECT_EQ(count(html, "<img"), 2U + 4 * 12);  // two grids, 24 pairs
  EXPECT_EQ(count(html, "<polyline"), 2U);
}

TEST(Report, EveryElementThatOpensCloses) {
  const auto html = page(pictures(90, 100), pictures(70, 0));
  for (const char* tag : {"html", "head", "body", "style", "div", "figure", "p", "b", "i", "svg", "text", "dl", "dt",
                          "dd", "pre", "details", "h2", "h3"}) {
    EXPECT_EQ(count(html, text("<", tag, "[ >]")), count(html, text("</", tag, ">"))) << tag;
  }
}

TEST(Report, SaysTheNumbersWithTheirDirection) {
  const auto generated = pictures(90, 100), reference = pictures(70, 0);
  const auto html = page(generated, reference);
  const auto scores = score(generated.data, reference.data, Metrics::parse("fid,kid,prdc"));
  char fid[32];
  std::snprintf(fid, sizeof(fid), "<b>%.4g</b>", scores.fid());
  EXPECT_THAT(html, HasSubstr(fid));
  EXPECT_EQ(count(html, "lower is better"), 2U);
  EXPECT_EQ(count(html, "higher is better"), 4U);
}

TEST(Report, NamesOfFilesAreTextAndNoMarkup) {
  const auto html = page(pictures(90, 100), pictures(70, 0));
  EXPECT_THAT(html, HasSubstr("generated &amp; co"));
  EXPECT_THAT(html, HasSubstr("the &lt;real&gt;"));
  EXPECT_THAT(html, Not(HasSubstr("<real>")));
  EXPECT_THAT(html, HasSubstr("alt=\"&lt;1"));
}

TEST(Report, ACopyOfTheDataIsTheFirstPairAtDistanceZero) {
  auto generated = pictures(90, 100);
  const auto reference = pictures(70, 0);
  generated.data.features[40] = reference.data.features[33];
  const auto html = page(generated, reference);
  const auto first = html.substr(html.find("<div class=\"pairs\">"), 2000);
  EXPECT_THAT(first, HasSubstr("&lt;140&gt;.png"));
  EXPECT_THAT(first, HasSubstr("&lt;33&gt;.png"));
  EXPECT_THAT(first, HasSubstr("<figcaption>0</figcaption>"));
}

TEST(Report, StatisticsAloneHaveNoPicturesAndThePageSaysSo) {
  auto reference = pictures(70, 0);
  reference.source = nullptr;
  reference.indices.clear();
  const auto html = page(pictures(90, 100), reference);
  EXPECT_EQ(count(html, "<img"), 1U);
  EXPECT_EQ(count(html, "class=\"absent\""), 2U);
}

TEST(Report, LargePicturesBecomeThumbnailsAndFewPicturesAreCautionedAgainst) {
  auto large = pictures(5, 100, 300);
  const auto reference = pictures(70, 0);
  large.data.statistics.count = 5;
  const auto scores = score(large.data, reference.data, {});
  const auto html = report_page(scores, large, reference, scores.json());
  EXPECT_LT(html.size(), 1'500'000U);
  EXPECT_THAT(html, HasSubstr("Fewer images than the 6 features"));
}

TEST(Report, TheSamePicturesGiveTheSamePage) {
  EXPECT_EQ(page(pictures(90, 100), pictures(70, 0)), page(pictures(90, 100), pictures(70, 0)));
}

TEST(NearestOthers, LeaveThePictureItselfOut) {
  const auto points = random_normal({1200, 3}, 1);
  auto distances = at::cdist(points, points);
  distances.fill_diagonal_(1e9);
  std::vector<std::size_t> all(1200);
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = i;
  EXPECT_LT((nearest_others(points, all) - std::get<0>(distances.min(1))).abs().max().item<double>(), 1e-7);
}

}  // namespace
}  // namespace epd::test
