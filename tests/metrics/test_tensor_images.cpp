#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "epd/metrics/tensor_images.h"

namespace epd {
namespace {

TEST(Pixels, AreClippedAndTruncatedAsPublished) {
  // 127.5 x + 128: -1 gives 0.5, 0 gives 128, 1 gives 255.5; what lies outside is clipped.
  const auto x = at::tensor({-2.0F, -1.0F, -0.9960F, 0.0F, 0.0078F, 1.0F, 7.0F}).view({1, 1, 1, 7});
  const auto pixels = to_pixels(x).flatten();
  EXPECT_TRUE(at::equal(pixels, at::tensor({0, 0, 1, 128, 128, 255, 255}, at::kByte)));
}

TEST(Pixels, KeepTheChannelsOfAPixelTogether) {
  auto x = at::zeros({2, 3, 4, 5});
  x[1][2][3][4] = 1;
  const auto pixels = to_pixels(x);
  EXPECT_EQ(pixels.sizes(), (std::vector<std::int64_t>{2, 4, 5, 3}));
  const auto image = image_of(pixels, 1);
  EXPECT_EQ(image.height, 4);
  EXPECT_EQ(image.width, 5);
  EXPECT_EQ(image.channels, 3);
  EXPECT_EQ(image.pixels.back(), 255);
  EXPECT_EQ(image.pixels[image.pixels.size() - 2], 128);
}

}  // namespace
}  // namespace epd
