#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <numeric>
#include <thread>

#include "epd/images/image_source.h"
#include "support/test_files.h"

namespace epd {
namespace {

using test::error_of;

/// Picture i is one pixel of value i % 256; some take longer than others, one may fail.
class SlowSource : public ImageSource {
 public:
  explicit SlowSource(std::size_t size, std::size_t failing = SIZE_MAX) : size_(size), failing_(failing) {}
  std::size_t size() const override { return size_; }
  const std::string& name(std::size_t) const override { return name_; }
  std::optional<int> label(std::size_t) const override { return std::nullopt; }
  Image load(std::size_t i) const override {
    ++loaded;
    if (i % 7 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(2));
    EPD_REQUIRE(i != failing_, "image ", i, " is damaged");
    return Image(1, 1, 1, static_cast<std::uint8_t>(i));
  }
  mutable std::atomic<std::size_t> loaded{0};

 private:
  std::size_t size_, failing_;
  std::string name_ = "pixel";
};

std::vector<std::size_t> first(std::size_t count) {
  std::vector<std::size_t> indices(count);
  std::iota(indices.begin(), indices.end(), 0);
  return indices;
}

class AnyThreads : public ::testing::TestWithParam<std::pair<int, std::size_t>> {};

TEST_P(AnyThreads, PicturesComeInTheOrderAskedFor) {
  const SlowSource source(200);
  std::vector<std::size_t> indices = first(200);
  std::reverse(indices.begin(), indices.end());
  Prefetcher prefetcher(source, indices, {GetParam().first, GetParam().second});
  for (const std::size_t index : indices) {
    const auto item = prefetcher.next();
    ASSERT_TRUE(item.has_value());
    EXPECT_EQ(item->index, index);
    EXPECT_EQ(item->image.pixels[0], index % 256);
  }
  EXPECT_FALSE(prefetcher.next().has_value());
  EXPECT_FALSE(prefetcher.next().has_value());
}

INSTANTIATE_TEST_SUITE_P(Prefetcher, AnyThreads,
                         ::testing::Values(std::pair{1, 1}, std::pair{3, 1}, std::pair{2, 8}, std::pair{8, 500}),
                         [](const auto& test) { return text(test.param.first, "threads_window", test.param.second); });

TEST(Prefetcher, NeverRunsFurtherAheadThanItsWindow) {
  const SlowSource source(1000);
  Prefetcher prefetcher(source, first(1000), {3, 10});
  for (std::size_t pulled = 1; pulled <= 20; ++pulled) {
    prefetcher.next();
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    EXPECT_LE(source.loaded, pulled + 10);
  }
}

TEST(Prefetcher, AnErrorReachesThePullerAfterThePicturesBefore) {
  const SlowSource source(50, 20);
  Prefetcher prefetcher(source, first(50), {4, 16});
  for (std::size_t i = 0; i < 20; ++i) EXPECT_EQ(prefetcher.next()->index, i);
  EXPECT_EQ(error_of([&] { prefetcher.next(); }), "image 20 is damaged");
  EXPECT_EQ(error_of([&] { prefetcher.next(); }), "image 20 is damaged");
}

TEST(Prefetcher, MayBeDroppedAtAnyPoint) {
  for (int pulls = 0; pulls < 5; ++pulls) {
    const SlowSource source(1000);
    Prefetcher prefetcher(source, first(1000), {4, 8});
    for (int i = 0; i < pulls; ++i) prefetcher.next();
  }
  const SlowSource none(0);
  Prefetcher prefetcher(none, {});
  EXPECT_FALSE(prefetcher.next().has_value());
}

}  // namespace
}  // namespace epd
