#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "epd/files/npz.h"
#include "epd/images/image.h"
#include "epd/images/image_source.h"
#include "epd/images/prepare.h"
#include "support/test_files.h"

namespace epd {
namespace {

using test::error_of;
using test::fixture;
using test::noise;
using test::TemporaryFolder;
using ::testing::AllOf;
using ::testing::HasSubstr;

Image golden_picture(const std::string& name) {
  const auto array = NpzReader(fixture("resized.npz")).read(name);
  const auto* pixels = array.as_uint8();
  return {static_cast<int>(array.shape[0]), static_cast<int>(array.shape[1]), 3,
          std::vector<std::uint8_t>(pixels, pixels + array.size())};
}

TEST(Resize, IsPillowsLanczosToTheByte) {
  const auto source = golden_picture("source");
  for (const auto& [height, width] : {std::pair{16, 16}, {8, 31}, {23, 10}, {40, 50}, {5, 3}, {1, 1}, {23, 31}}) {
    EXPECT_EQ(resize(source, height, width), golden_picture(text(height, 'x', width))) << height << 'x' << width;
  }
}

TEST(Resize, LeavesAnImageOfTheSameSizeAsItIs) {
  for (const auto& [height, width] : {std::pair{1, 1}, {37, 23}, {8, 200}}) {
    const auto image = noise(height, width, 3, 7);
    EXPECT_EQ(resize(image, height, width), image);
  }
}

TEST(Resize, LeavesAFlatPictureFlatToItsEdges) {
  EXPECT_EQ(resize(Image(37, 23, 3, 200), 5, 61), Image(5, 61, 3, 200));
  EXPECT_THROW(resize(Image(2, 2, 3), 0, 2), Error);
}

class Preparation : public ::testing::Test {
 protected:
  void add(const std::string& name, const Image& image) { add_bytes(name, encode_png(image)); }
  void add_bytes(const std::string& name, const std::string& bytes) {
    const auto path = source() / name;
    std::filesystem::create_directories(path.parent_path());
    write_file(path, bytes);
  }
  std::filesystem::path source() const { return folder_ / "source"; }
  std::filesystem::path dest() const { return folder_ / "dest.zip"; }
  PrepareOptions options() const { return {.source = source(), .dest = dest()}; }
  std::unique_ptr<ImageSource> prepared(const PrepareOptions& options) {
    prepare_dataset(options);
    return open_image_source(options.dest);
  }
  std::string labels() const {
    const ZipReader zip(dest());
    return zip.read(*zip.find("dataset.json"));
  }

  TemporaryFolder folder_;
};

TEST_F(Preparation, PicturesAreNumberedInTheOrderOfTheirPathsParts) {
  add("a-1/p.png", Image(4, 4, 3, 2));
  add("a/p.png", Image(4, 4, 3, 1));
  add("z.png", Image(4, 4, 3, 3));
  const auto made = prepared(options());
  ASSERT_EQ(made->size(), 3u);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(made->load(static_cast<std::size_t>(i)), Image(4, 4, 3, i + 1));
  EXPECT_EQ(made->name(0), "00000/img00000000.png");
  // Classes are the top folders in order, pictures beside them first.
  EXPECT_EQ(labels(), R"({"labels": [["00000/img00000000.png", 1], ["00000/img00000001.png", 2], )"
                      R"(["00000/img00000002.png", 0]]})");
}

TEST_F(Preparation, TheArchiveIsStoredAndItsBytesDependOnThePicturesAlone) {
  for (int i = 0; i < 40; ++i) add(text("p", i, ".png"), noise(24, 20, 3, static_cast<unsigned>(i)));
  auto wanted = options();
  wanted.resolution = {16, 16};
  wanted.workers = 1;
  prepare_dataset(wanted);
  const auto bytes = read_file(dest());
  wanted.workers = 5;
  prepare_dataset(wanted);
  EXPECT_TRUE(read_file(dest()) == bytes);
  const ZipReader zip(dest());
  EXPECT_EQ(zip.size(), 41u);
  EXPECT_TRUE(std::ranges::all_of(zip.entries(), &ZipReader::Entry::stored));
}

TEST_F(Preparation, LabelsOfDatasetJsonAreKeptAndOneThatIsMissingLeavesNone) {
  for (const char* name : {"a.png", "b.png"}) add(name, Image(4, 4, 3));
  add_bytes("dataset.json", R"({"labels": [["a.png", 7], ["b.png", 5]]})");
  prepare_dataset(options());
  EXPECT_EQ(labels(), R"({"labels": [["00000/img00000000.png", 7], ["00000/img00000001.png", 5]]})");
  add_bytes("dataset.json", R"({"labels": [["a.png", 7]]})");
  prepare_dataset(options());
  EXPECT_EQ(labels(), R"({"labels": null})");
  auto first = options();
  first.max_images = 1;
  prepare_dataset(first);
  EXPECT_EQ(labels(), R"({"labels": [["00000/img00000000.png", 7]]})");
}

TEST_F(Preparation, GreyImagesStayGreyUnlessACropMakesRgb) {
  for (int i = 0; i < 3; ++i) add(text(i, ".png"), noise(8, 8, 1, static_cast<unsigned>(i)));
  auto wanted = options();
  const auto channels = [&] {
    prepare_dataset(wanted);
    const auto source = open_image_source(dest(), {.channels = Channels::kGreyStaysGrey});
    EXPECT_EQ(to_grey(source->load(2)).height, source->load(2).height);
    return source->load(2).channels;
  };
  EXPECT_EQ(channels(), 1);
  EXPECT_EQ(open_image_source(dest(), {.channels = Channels::kGreyStaysGrey})->load(1), noise(8, 8, 1, 1));
  wanted.resolution = {4, 4};
  EXPECT_EQ(channels(), 1);
  wanted.transform = Crop::kCenterCrop;
  EXPECT_EQ(channels(), 3);
  wanted.transform = Crop::kCenterCropWide;
  EXPECT_EQ(channels(), 3);
  add("rgb.png", noise(8, 8, 3, 9));
  EXPECT_NO_THROW(prepare_dataset(wanted));
  EXPECT_THAT(error_of([&] { prepare_dataset(options()); }), HasSubstr("rgb.png is RGB, but 0.png is grey"));
}

TEST_F(Preparation, ClassesThatCannotBeUsedEndIt) {
  for (const char* name : {"x/a.png", "y/b.png"}) add(name, Image(4, 4, 3));
  for (const char* json : {"", "{}", R"({"labels": [["a.png", 1]]})", R"({"labels": [["x/a.png", 4294967296]]})"}) {
    add_bytes("dataset.json", json);
    EXPECT_THAT(error_of([&] { prepare_dataset(options()); }), HasSubstr("dataset.json")) << json;
    EXPECT_FALSE(std::filesystem::exists(dest()));
  }
  for (const char* json : {R"({"labels": null})", R"({"labels": []})"}) {  // as EDM's tool: the folders' names count
    add_bytes("dataset.json", json);
    prepare_dataset(options());
    EXPECT_EQ(labels(), R"({"labels": [["00000/img00000000.png", 0], ["00000/img00000001.png", 1]]})");
  }
}

TEST_F(Preparation, UnreadableImagesAreSkippedAndCountedWhereAsked) {
  for (int i = 0; i < 6; ++i) add(text(i, ".png"), Image(4, 4, 3, static_cast<std::uint8_t>(i)));
  add_bytes("0.png", "damaged");
  add_bytes("4.png", encode_png(Image(4, 4, 3)).substr(0, 45));
  EXPECT_THAT(error_of([&] { prepare_dataset(options()); }), HasSubstr("0.png"));
  auto wanted = options();
  wanted.on_bad = OnBad::kSkip;
  const auto made = prepared(wanted);
  ASSERT_EQ(made->size(), 4U);
  EXPECT_EQ(made->load(0), Image(4, 4, 3, 1));
  EXPECT_EQ(made->load(3), Image(4, 4, 3, 5));
  for (int i = 0; i < 6; ++i) add_bytes(text(i, ".png"), "damaged");
  EXPECT_THAT(error_of([&] { prepare_dataset(wanted); }), HasSubstr("no images remain"));
}

TEST_F(Preparation, ACentralSquareIsCutOut) {
  Image image(6, 10, 3);
  for (int y = 0; y < 6; ++y) {
    for (int x = 0; x < 10; ++x) image.row(y)[3 * x] = static_cast<std::uint8_t>(20 * x + y);
  }
  add("a.png", image);
  auto wanted = options();
  wanted.resolution = {6, 6};
  wanted.transform = Crop::kCenterCrop;
  const auto made = prepared(wanted)->load(0);
  ASSERT_EQ(made.width, 6);
  for (int y = 0; y < 6; ++y) {
    for (int x = 0; x < 6; ++x) EXPECT_EQ(made.row(y)[3 * x], 20 * (x + 2) + y);
  }
}

TEST_F(Preparation, AWideCropStandsBetweenBlackBarsAndSmallPicturesAreLeftOutWithoutAGap) {
  add("a.png", Image(8, 7, 3, 90));    // not wide enough
  add("b.png", Image(12, 8, 3, 200));  // rows are cut off
  add("c.png", Image(3, 8, 3, 100));   // not high enough
  add("d.png", Image(4, 8, 3, 50));
  auto wanted = options();
  wanted.resolution = {8, 4};
  wanted.transform = Crop::kCenterCropWide;
  const auto made = prepared(wanted);
  ASSERT_EQ(made->size(), 2u);
  EXPECT_EQ(made->name(1), "00000/img00000001.png");
  Image expected(8, 8, 3, 0);
  std::fill_n(expected.row(2), 4 * 24, 200);
  EXPECT_EQ(made->load(0), expected);
}

TEST_F(Preparation, WhatCannotBeOneDatasetIsRefusedAndLeavesNoFile) {
  add("a.png", Image(4, 4, 3));
  add("b.png", Image(4, 5, 3));
  EXPECT_THAT(error_of([&] { prepare_dataset(options()); }),
              AllOf(HasSubstr("b.png is 5x4, but a.png is 4x4"), HasSubstr("--resolution")));
  EXPECT_FALSE(std::filesystem::exists(dest()));
  add_bytes("b.png", encode_png(Image(4, 4, 3)).substr(0, 40));
  EXPECT_THAT(error_of([&] { prepare_dataset(options()); }), HasSubstr("b.png"));
  EXPECT_FALSE(std::filesystem::exists(dest()));
  auto wanted = options();
  wanted.resolution = {64, 64};
  wanted.transform = Crop::kCenterCropWide;
  EXPECT_THAT(error_of([&] { prepare_dataset(wanted); }), HasSubstr("b.png"));
}

TEST_F(Preparation, OptionsThatCannotBeMeantAreRefused) {
  const auto refused = [](PrepareOptions options) { return error_of([&] { options.validated(); }); };
  EXPECT_THAT(refused({.dest = "out.tar"}), HasSubstr(".zip"));
  EXPECT_THAT(refused({.dest = "out.zip", .transform = Crop::kCenterCrop}), HasSubstr("--resolution"));
  for (const char* value : {"64", "64x", "0x4", "64x64x3", "-1x4", "axb"}) {
    EXPECT_THAT(error_of([&] { PrepareOptions::parse_resolution(value); }), HasSubstr(value));
  }
  EXPECT_EQ(PrepareOptions::parse_resolution("64,48").height, 48);
}

TEST_F(Preparation, CifarsArchiveIsReadInTheOrderOfItsBatches) {
  for (const char* name : {"cifar.tar.gz", "cifar-python3.tar.gz"}) {
    const auto source = open_image_source(fixture(name));
    ASSERT_EQ(source->size(), 4u) << name;
    for (std::size_t i = 0; i < 4; ++i) {
      const int batch = static_cast<int>(i) / 2 + 1;
      EXPECT_EQ(source->label(i), i % 2 == 0 ? batch : 9 - batch);
      const auto image = source->load(i);
      ASSERT_EQ(image.pixels.size(), 3072u);
      for (int p = 0; p < 3072; ++p) {
        const int place = static_cast<int>(i % 2) * 3072 + p % 3 * 1024 + p / 3;
        ASSERT_EQ(image.pixels[static_cast<std::size_t>(p)], place * (2 * batch + 1) / 7 % 256);
      }
    }
  }
}

TEST_F(Preparation, ADamagedCifarArchiveIsRefusedWithItsName) {
  const auto bytes = read_file(fixture("cifar.tar.gz"));
  const auto path = folder_ / "cifar-10-python.tar.gz";
  for (const std::size_t length : {std::size_t{0}, std::size_t{100}, bytes.size() / 2, bytes.size() - 20}) {
    write_file(path, bytes.substr(0, length));
    EXPECT_THAT(error_of([&] { open_image_source(path); }), HasSubstr("cifar-10-python.tar.gz")) << length;
  }
}

TEST_F(Preparation, LabelsBesideAnArrayAreItsClasses) {
  const auto path = folder_ / "a.npz";
  write_npz(path, {{"arr_0", Array::uint8s({2, 1, 1, 3}, {1, 2, 3, 4, 5, 6})}, {"arr_1", Array::int64s({2}, {4, 9})}});
  const auto source = open_image_source(path);
  EXPECT_EQ(source->label(0), 4);
  EXPECT_EQ(source->label(1), 9);
}

}  // namespace
}  // namespace epd
