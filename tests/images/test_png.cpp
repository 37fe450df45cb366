#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <thread>

#include "epd/files/npz.h"
#include "epd/files/zip.h"
#include "epd/images/image_source.h"
#include "epd/images/png.h"
#include "support/test_files.h"

namespace epd {
namespace {

using test::error_of;
using test::fixture;
using test::noise;
using ::testing::HasSubstr;

/// The pixels that Pillow read from a picture of pictures.zip.
Image pixels_of_pillow(const NpzReader& reader, std::string name) {
  std::replace(name.begin(), name.end(), '.', '_');
  const Array array = reader.read(name);
  return Image(static_cast<int>(array.shape.at(0)), static_cast<int>(array.shape.at(1)), 3,
               std::vector<std::uint8_t>(array.as_uint8(), array.as_uint8() + array.size()));
}

TEST(Pictures, EveryKindOfPngAndJpegHasPillowsPixels) {
  const ZipReader pictures(fixture("pictures.zip"));
  const NpzReader pillow(fixture("pixels.npz"));
  int compared = 0;
  for (std::size_t i = 0; i < pictures.size(); ++i) {
    const std::string& name = pictures.entries()[i].name;
    EXPECT_EQ(decode_image(pictures.read(i), name), pixels_of_pillow(pillow, name)) << name;
    ++compared;
  }
  EXPECT_EQ(compared, 49);
}

TEST(Pictures, EveryOtherFormatHasPillowsPixels) {
  const ZipReader pictures(fixture("formats.zip"));
  const NpzReader pillow(fixture("formats.npz"));
  ASSERT_EQ(pictures.size(), 35u);
  for (std::size_t i = 0; i < pictures.size(); ++i) {
    const std::string& name = pictures.entries()[i].name;
    const std::string bytes = pictures.read(i);
    EXPECT_EQ(decode_image(bytes, name), pixels_of_pillow(pillow, name)) << name;
    EXPECT_THROW(decode_image(bytes.substr(0, bytes.size() / 2), name), Error) << name;
  }
}

TEST(Pictures, WhatPillowReadsWithOtherNumbersIsRefused) {
  std::string file = ZipReader(fixture("formats.zip")).read(0);
  file[28] = 16;
  EXPECT_THAT(error_of([&] { decode_image(file, "a.bmp"); }), HasSubstr("16 bits"));
  EXPECT_THAT(error_of([] { decode_image("P5 1 1 65535\n\1\2", "a.pgm"); }), HasSubstr("65535"));
  EXPECT_THAT(error_of([] { decode_image("P3 1 1 255\n1 2 3", "a.ppm"); }), HasSubstr("P3"));
}

TEST(Pictures, TransparencyLaidOnWhiteIsAsPillowPastesIt) {
  const ZipReader pictures(fixture("pictures.zip"));
  const NpzReader pillow(fixture("pixels_on_white.npz"));
  ASSERT_EQ(pillow.names().size(), 8u);
  for (std::string name : pillow.names()) {
    name.replace(name.size() - 4, 1, ".");
    const std::string bytes = pictures.read(*pictures.find(name));
    EXPECT_EQ(decode_image(bytes, name, Alpha::kWhite), pixels_of_pillow(pillow, name)) << name;
  }
}

TEST(Pictures, GreyStaysGreyWhereItShould) {
  const ZipReader pictures(fixture("pictures.zip"));
  for (const auto& entry : pictures.entries()) {
    const std::string bytes = pictures.read(*pictures.find(entry.name));
    const Image rgb = decode_image(bytes, entry.name);
    const Image kept = decode_image(bytes, entry.name, Alpha::kDrop, Channels::kGreyStaysGrey);
    EXPECT_EQ(kept.channels, entry.name.starts_with("grey") ? 1 : 3) << entry.name;
    EXPECT_EQ(to_rgb(kept), rgb) << entry.name;
  }
}

TEST(Pictures, EveryTruncationIsAnErrorThatNamesTheFile) {
  const ZipReader pictures(fixture("pictures.zip"));
  for (const char* name : {"rgb8.png", "rgb8_interlaced.png", "palette4.png", "420.jpg", "grey_progressive.jpg"}) {
    const std::string bytes = pictures.read(*pictures.find(name));
    for (std::size_t length = 0; length < bytes.size(); ++length) {
      const std::string cut = bytes.substr(0, length);
      EXPECT_THAT(error_of([&] { decode_image(cut, name); }), HasSubstr(name)) << length;
    }
  }
}

TEST(Pictures, NoDamageCrashesTheDecoders) {
  const ZipReader pictures(fixture("pictures.zip"));
  std::mt19937 generator(3);
  for (std::size_t i = 0; i < pictures.size(); ++i) {
    const std::string good = pictures.read(i);
    for (int trial = 0; trial < 100; ++trial) {
      std::string bad = good;
      for (int change = 0; change < 3; ++change) bad[generator() % bad.size()] = static_cast<char>(generator());
      try {
        decode_image(bad, "damaged");
      } catch (const Error& e) {
        EXPECT_THAT(e.what(), HasSubstr("damaged"));
      }
    }
  }
}

TEST(Png, ABadChecksumInACriticalChunkIsAnError) {
  const std::string bytes = encode_png(noise(8, 8, 3, 1));
  const std::size_t header_crc = 29, end_crc = bytes.size() - 4, data_crc = bytes.size() - 12 - 4;
  for (const std::size_t position : {header_crc, data_crc, end_crc}) {
    std::string bad = bytes;
    bad[position] = static_cast<char>(bad[position] ^ 1);
    EXPECT_THAT(error_of([&] { decode_png(bad, "x.png"); }), HasSubstr("x.png")) << position;
  }
}

TEST(Png, ASizeThatTheFileCannotHoldIsRefusedBeforeItIsAllocated) {
  std::string bytes = encode_png(Image(2, 2, 3, 7));
  // 65535 x 65535 and 10000 x 10000, with a right checksum.
  const auto with_size = [&](std::string_view size, std::string_view crc) {
    std::string bomb = bytes;
    bomb.replace(16, 8, std::string(size));
    bomb.replace(29, 4, std::string(crc));
    return bomb;
  };
  using namespace std::string_view_literals;
  EXPECT_THAT(error_of([&] { decode_png(with_size("\0\0\xff\xff\0\0\xff\xff"sv, "\x39\x67\x4e\x07"sv), "bomb.png"); }),
              HasSubstr("bomb.png"));
  EXPECT_THAT(error_of([&] { decode_png(with_size("\0\0\x27\x10\0\0\x27\x10"sv, "\x35\x2c\xf5\x70"sv), "bomb.png"); }),
              HasSubstr("bomb.png"));
}

TEST(Png, EncodingKeepsEveryPixel) {
  for (const int channels : {1, 3}) {
    for (const auto& [height, width] : {std::pair{1, 1}, {1, 17}, {17, 1}, {32, 32}, {37, 61}}) {
      for (const int level : {1, 6, 12}) {
        const Image image = noise(height, width, channels, 5);
        EXPECT_EQ(decode_png(encode_png(image, {}, level), "memory"), to_rgb(image)) << height << 'x' << width;
      }
    }
  }
}

TEST(Png, TheBytesDependOnThePictureAlone) {
  const Image image = noise(64, 64, 3, 9);
  const std::string alone = encode_png(image);
  std::vector<std::string> results(4);
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < results.size(); ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 20; ++i) encode_png(noise(16, 16, 3, 1), {}, 1 + static_cast<int>(t));
      results[t] = encode_png(image);
    });
  }
  for (auto& thread : threads) thread.join();
  for (const std::string& result : results) EXPECT_EQ(result, alone);
}

TEST(Png, TextStandsInTheFileAndLeavesThePixels) {
  const Image image = noise(8, 8, 3, 2);
  const std::string bytes = encode_png(image, {{"seed", "17"}, {"predictor", "abc"}});
  EXPECT_THAT(bytes, HasSubstr(std::string("tEXtseed\0", 9) + "17"));
  EXPECT_EQ(decode_png(bytes, "memory"), image);
  EXPECT_THAT(error_of([&] { encode_png(image, {{"", "x"}}); }), HasSubstr("keyword"));
  EXPECT_THAT(error_of([&] { encode_png(image, {{std::string(80, 'k'), "x"}}); }), HasSubstr("keyword"));
}

TEST(Png, OnlyGreyAndRgbAreWritten) {
  EXPECT_THAT(error_of([] { encode_png(Image(2, 2, 4)); }), HasSubstr("channels"));
  Image wrong(2, 2, 3);
  wrong.pixels.pop_back();
  EXPECT_THAT(error_of([&] { encode_png(wrong); }), HasSubstr("11 values"));
}

TEST(Png, WhatIsNoPictureIsSaidToBeNone) {
  EXPECT_THAT(error_of([] { decode_image("", "a.png"); }), HasSubstr("empty"));
  EXPECT_THAT(error_of([] { decode_image("an image", "a.png"); }), HasSubstr("is not a PNG, JPEG, WebP"));
  for (const char* begun : {"GIF89a", "BM", "P6 2 2 255\n", "RIFF1234WEBPVP8 "}) {
    EXPECT_THAT(error_of([&] { decode_image(begun, "a.png"); }), HasSubstr("a.png"));
  }
}

TEST(ImageGrid, PutsPicturesInRowsWithGaps) {
  const std::vector<Image> images{Image(1, 2, 1, 10), Image(1, 2, 1, 20), Image(1, 2, 1, 30)};
  const Image grid = image_grid(images, 2, 1, 255);
  const std::vector<std::uint8_t> expected{10,  10,  255, 20,  20,   //
                                           255, 255, 255, 255, 255,  //
                                           30,  30,  255, 255, 255};
  EXPECT_EQ(grid, Image(3, 5, 1, expected));
  EXPECT_EQ(image_grid({images[0]}, 8).width, 2);  // no empty columns
  EXPECT_THAT(error_of([&] { image_grid({images[0], Image(2, 2, 1)}, 2); }), HasSubstr("number 1"));
  EXPECT_THAT(error_of([&] { image_grid({}, 2); }), HasSubstr("0 images"));
}

}  // namespace
}  // namespace epd
