#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <thread>

#include "epd/files/npz.h"
#include "epd/images/image_source.h"
#include "epd/images/png.h"
#include "support/test_files.h"

namespace epd {
namespace {

using test::error_of;
using test::fixture;
using test::noise;
using test::TemporaryFolder;
using ::testing::AllOf;
using ::testing::HasSubstr;

void add(const std::filesystem::path& path, std::string_view bytes) {
  std::filesystem::create_directories(path.parent_path());
  write_file(path, bytes);
}

std::vector<std::string> names_of(const ImageSource& source) {
  std::vector<std::string> names;
  for (std::size_t i = 0; i < source.size(); ++i) names.push_back(source.name(i));
  return names;
}

TEST(ImageFolder, HoldsThePicturesOfAllDepthsSortedAsStrings) {
  const TemporaryFolder folder;
  const std::string png = encode_png(noise(4, 4, 3, 1));
  for (const char* name : {"b.png", "a/10.PNG", "a/9.png", "a/b/c.jpeg", "B.jpg", ".hidden.png", ".git/x.png",
                           "__MACOSX/b.png", "a/._9.png", "notes.txt", "png", "x.png.txt"}) {
    add(folder / name, png);
  }
  const auto source = open_image_source(folder.path());
  EXPECT_EQ(names_of(*source), (std::vector<std::string>{"B.jpg", "a/10.PNG", "a/9.png", "a/b/c.jpeg", "b.png"}));
  EXPECT_EQ(names_of(*open_image_source(folder.path() / "")), names_of(*source));
  EXPECT_EQ(source->load(0), noise(4, 4, 3, 1));  // a PNG, whatever it is called
  EXPECT_FALSE(source->label(0).has_value());
}

TEST(ImageFolder, TheGridOfASampleFolderIsNoPictureOfASet) {
  const TemporaryFolder folder;
  const std::string png = encode_png(Image(2, 2, 3));
  for (const char* name : {"a.png", "grid.png", "sub/grid.png"}) add(folder / name, png);
  EXPECT_EQ(open_image_source(folder.path())->size(), 3U);  // a name like any other in folders of other programs
  add(folder / "manifest.json", "{}");
  EXPECT_EQ(names_of(*open_image_source(folder.path())), (std::vector<std::string>{"a.png", "sub/grid.png"}));
}

TEST(ImageFolder, LabelsComeFromDatasetJson) {
  const TemporaryFolder folder;
  const std::string png = encode_png(Image(2, 2, 3));
  for (const char* name : {"a.png", "sub/b.png", "c.png"}) add(folder / name, png);
  add(folder / "dataset.json", R"({"labels": [["sub/b.png", 3], ["a.png", 0]]})");
  const auto source = open_image_source(folder.path());
  EXPECT_EQ(source->label(0), 0);
  EXPECT_EQ(source->label(1), std::nullopt);
  EXPECT_EQ(source->label(2), 3);
  for (const char* json : {R"({"labels": null})", "not json", R"({"labels": [["a.png", [1, 2]]]})", "[]", ""}) {
    add(folder / "dataset.json", json);
    EXPECT_FALSE(open_image_source(folder.path())->label(0).has_value()) << json;
  }
}

TEST(ImageZip, ReadsAnEdmDatasetSortedWithLabels) {
  const auto source = open_image_source(fixture("dataset.zip"));
  const auto pictures = open_image_source(fixture("images.npy"));
  ASSERT_EQ(source->size(), 5u);
  for (std::size_t i = 0; i < 5; ++i) {
    EXPECT_EQ(source->name(i), "00000/img0000000" + std::to_string(i) + ".png");
    EXPECT_EQ(source->label(i), 7 - static_cast<int>(i));
    EXPECT_EQ(source->load(i), pictures->load(i));
  }
}

TEST(ImageArrays, AllFilesOfTheSameArrayHoldTheSamePictures) {
  const Array array = read_npy(fixture("images.npy"));
  for (const char* name : {"images.npy", "images.npz", "images_compressed.npz", "images_fortran.npy"}) {
    const auto source = open_image_source(fixture(name));
    ASSERT_EQ(source->size(), 5u) << name;
    for (std::size_t i = 0; i < 5; ++i) {
      const auto* begin = array.as_uint8() + i * 4 * 6 * 3;
      EXPECT_EQ(source->load(i), Image(4, 6, 3, std::vector<std::uint8_t>(begin, begin + 4 * 6 * 3))) << name;
    }
  }
  EXPECT_EQ(open_image_source(fixture("images.npz"))->name(3), "arr_0[3]");
}

TEST(ImageArrays, WhatIsNoPictureArrayIsRefusedWithItsShapeOrDtype) {
  const TemporaryFolder folder;
  write_file(folder / "float.npy", encode_npy(Array::floats({1, 2, 2, 3}, std::vector<float>(12))));
  EXPECT_THAT(error_of([&] { open_image_source(folder / "float.npy"); }), HasSubstr("<f4"));
  write_file(folder / "nchw.npy", encode_npy(Array::uint8s({1, 3, 2, 2}, std::vector<std::uint8_t>(12))));
  EXPECT_THAT(error_of([&] { open_image_source(folder / "nchw.npy"); }), HasSubstr("[1, 3, 2, 2]"));
  write_file(folder / "none.npy", encode_npy(Array::uint8s({0, 2, 2, 3}, {})));
  EXPECT_THAT(error_of([&] { open_image_source(folder / "none.npy"); }), HasSubstr("no images"));
  write_npz(folder / "two.npz", {{"a", Array::scalar(1.0)}, {"b", Array::scalar(2.0)}});
  EXPECT_THAT(error_of([&] { open_image_source(folder / "two.npz"); }), HasSubstr("arr_0"));
  const std::string bytes = read_file(fixture("images.npy"));
  write_file(folder / "cut.npy", bytes.substr(0, bytes.size() - 1));
  EXPECT_THAT(error_of([&] { open_image_source(folder / "cut.npy"); }), HasSubstr("cut short"));
}

TEST(ImageArrays, GreyPicturesBecomeRgb) {
  const TemporaryFolder folder;
  write_file(folder / "grey.npy", encode_npy(Array::uint8s({1, 1, 2, 1}, {7, 9})));
  EXPECT_EQ(open_image_source(folder / "grey.npy")->load(0), Image(1, 2, 3, {7, 7, 7, 9, 9, 9}));
}

TEST(ImageSource, MissingEmptyAndForeignPathsAreErrorsThatSayWhatIsWrong) {
  const TemporaryFolder folder;
  EXPECT_THAT(error_of([&] { open_image_source(folder / "none"); }), HasSubstr("does not exist"));
  EXPECT_THAT(error_of([&] { open_image_source(folder.path()); }),
              AllOf(HasSubstr("no images"), HasSubstr("*.png"), HasSubstr(folder.path().string())));
  write_file(folder / "x.tar", "x");
  EXPECT_THAT(error_of([&] { open_image_source(folder / "x.tar"); }), HasSubstr("neither a folder nor"));
  const std::string zip = read_file(fixture("dataset.zip"));
  write_file(folder / "cut.zip", zip.substr(0, zip.size() - 30));
  EXPECT_THAT(error_of([&] { open_image_source(folder / "cut.zip"); }), HasSubstr("cut short"));
}

TEST(ImageSource, ADamagedPictureIsNamedWithItsFolderOrArchive) {
  const TemporaryFolder folder;
  add(folder / "in/bad.png", encode_png(Image(8, 8, 3)).substr(0, 60));
  const auto source = open_image_source(folder.path());
  EXPECT_THAT(error_of([&] { source->load(0); }), HasSubstr((folder / "in/bad.png").string()));
  ZipWriter zip(folder / "x.zip");
  zip.add("bad.png", "no image");
  zip.finish();
  const auto archive = open_image_source(folder / "x.zip");
  EXPECT_THAT(error_of([&] { archive->load(0); }), AllOf(HasSubstr("bad.png"), HasSubstr("x.zip")));
}

TEST(ImageSource, PicturesMayBeLoadedByManyThreads) {
  for (const char* name : {"dataset.zip", "images.npz", "images_compressed.npz", "images.npy"}) {
    const auto source = open_image_source(fixture(name));
    const Image expected = source->load(4);
    std::vector<std::thread> threads;
    std::atomic<int> equal{0};
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([&] {
        for (int i = 0; i < 50; ++i) equal += source->load(4) == expected;
      });
    }
    for (auto& thread : threads) thread.join();
    EXPECT_EQ(equal, 200) << name;
  }
}

}  // namespace
}  // namespace epd
