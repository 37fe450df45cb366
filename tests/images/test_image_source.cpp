#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

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

/// What the call logs.
template <class Call>
std::string logged(Call&& call) {
  ::testing::internal::CaptureStderr();
  call();
  return ::testing::internal::GetCapturedStderr();
}

TEST(ImageFolder, OnlyRegularFilesAreReadAndWhatElseIsThereIsNamed) {
  const TemporaryFolder folder;
  add(folder / "elsewhere/e.png", encode_png(noise(3, 3, 3, 1)));
  add(folder / "set/a.png", encode_png(noise(3, 3, 3, 2)));
  std::filesystem::create_symlink(folder / "elsewhere/e.png", folder / "set/link.png");
  std::filesystem::create_symlink(folder / "nothing.png", folder / "set/dangling.png");
  std::filesystem::create_symlink("loop.png", folder / "set/loop.png");
  ASSERT_EQ(::mkfifo((folder / "set/pipe.png").c_str(), 0600), 0);
  const int server = ::socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
  const std::string socket_path = (folder / "set/socket.jpg").string();
  ASSERT_LT(socket_path.size(), sizeof(address.sun_path));
  socket_path.copy(address.sun_path, socket_path.size());
  ASSERT_EQ(::bind(server, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  std::unique_ptr<ImageSource> source;
  const auto log = logged([&] { source = open_image_source(folder / "set"); });
  ::close(server);
  EXPECT_EQ(names_of(*source), (std::vector<std::string>{"a.png", "link.png"}));
  EXPECT_EQ(source->load(1), noise(3, 3, 3, 1));
  EXPECT_THAT(log, AllOf(HasSubstr("4 names that are not regular files"), HasSubstr(".png")));
}

TEST(ImageSource, APathThatIsNoRegularFileIsRefusedAtOnce) {
  const TemporaryFolder folder;
  for (const char* name : {"pipe.npz", "pipe.zip", "pipe"}) {
    ASSERT_EQ(::mkfifo((folder / name).c_str(), 0600), 0);
    EXPECT_THAT(error_of([&] { open_image_source(folder / name); }), HasSubstr("regular file")) << name;
  }
  EXPECT_THAT(error_of([&] { open_image_source("/dev/null"); }), HasSubstr("regular file"));
  EXPECT_THAT(error_of([&] { open_image_source("https://example.invalid/a.zip"); }), HasSubstr("curl -LO"));
}

TEST(ImageZip, NamesThatLeaveTheFolderAreImagesLikeOthersAndRepeatedNamesAreNamed) {
  const TemporaryFolder folder;
  ZipWriter zip(folder / "a.zip");
  const std::vector<std::string> names{"../up.png", "/root.png", "a/../../b.jpg", "plain.png"};
  for (unsigned i = 0; i < 4; ++i) zip.add(names[i], encode_png(noise(3, 3, 3, i)));
  zip.finish();
  const auto source = open_image_source(folder / "a.zip");
  EXPECT_EQ(names_of(*source), names);
  EXPECT_EQ(source->load(2), noise(3, 3, 3, 2));

  std::string bytes = read_file(folder / "a.zip");
  for (auto at = bytes.find("/root.png"); at != bytes.npos; at = bytes.find("/root.png", at + 1)) {
    bytes.replace(at, 9, "plain.png");
  }
  write_file(folder / "twice.zip", bytes);
  std::unique_ptr<ImageSource> twice;
  const auto log = logged([&] { twice = open_image_source(folder / "twice.zip"); });
  EXPECT_EQ(names_of(*twice), (std::vector<std::string>{"../up.png", "a/../../b.jpg", "plain.png"}));
  EXPECT_EQ(twice->load(2), noise(3, 3, 3, 3));
  EXPECT_THAT(log, AllOf(HasSubstr("1 names appear again"), HasSubstr("plain.png")));
}

TEST(ImageSource, ClassesThatCannotBeUsedAreSaidAndWhereTheyMatterRefused) {
  const TemporaryFolder folder;
  for (const char* name : {"a.png", "sub/b.png"}) add(folder / name, encode_png(Image(2, 2, 3)));
  const auto open = [&](bool labels_matter) {
    return open_image_source(folder.path(), {.labels_matter = labels_matter});
  };
  for (const auto& [json, reason] :
       {std::pair(R"({"labels": [["a.png", 99999999999]]})", "class 99999999999 of 'a.png'"),
        {R"({"labels": [["a.png", 2147483648]]})", "class 2147483648 of 'a.png'"},
        {R"({"labels": [["sub/b.png", 18446744073709551615]]})", "class 18446744073709551615 of 'sub/b.png'"},
        {R"({"labels": [["sub/b.png", -2147483649]]})", "class -2147483649"},
        {R"({"labels": [["a.png", 1.5]]})", "class 1.5"},
        {R"({"labels": [["a.png", true]]})", "class true"},
        {R"({"labels": [["a.png", [0, 1]]]})", "class [0,1]"},
        {R"({"labels": [["a.png", 1], ["a.png", 2]]})", "two classes, 1 and 2"},
        {R"({"labels": [["A.png", 1], ["b.png", 2]]})", "none of its 2 names"},
        {R"({"labels": {"a.png": 1}})", "unknown label format"},
        {R"({"label": []})", "unknown label format"},
        {R"([["a.png", 1]])", "unknown label format"},
        {R"({"labels": [["a.png", 1]])", "unknown label format"}}) {
    add(folder / "dataset.json", json);
    EXPECT_THAT(error_of([&] { open(true); }), AllOf(HasSubstr("dataset.json"), HasSubstr(reason))) << json;
    EXPECT_THAT(logged([&] { EXPECT_FALSE(open(false)->label(0).has_value()); }), HasSubstr(reason)) << json;
  }
  add(folder / "dataset.json", R"({"labels": [["a.png", 4], ["gone.png", 5], ["b.png", 6]]})");
  EXPECT_THAT(logged([&] { EXPECT_EQ(open(true)->label(0), 4); }), HasSubstr("2 names are not those of images"));
  add(folder / "dataset.json", R"({"labels": [["a.png", 2147483647], ["sub/b.png", 0]]})");
  EXPECT_EQ(logged([&] { EXPECT_EQ(open(true)->label(0), 2147483647); }), "");
}

TEST(ImageArrays, ClassesBesideThemMustBeClasses) {
  const TemporaryFolder folder;
  const auto images = Array::uint8s({2, 1, 1, 3}, {1, 2, 3, 4, 5, 6});
  write_npz(folder / "large.npz", {{"arr_0", images}, {"labels", Array::int64s({2}, {3, 4294967297})}});
  EXPECT_THAT(error_of([&] { open_image_source(folder / "large.npz", {.labels_matter = true}); }),
              AllOf(HasSubstr("labels"), HasSubstr("class 4294967297 of image 1")));
  EXPECT_FALSE(open_image_source(folder / "large.npz")->label(0).has_value());
  write_npz(folder / "other.npz", {{"arr_0", images}, {"arr_1", Array::doubles({2}, {1, 2})}});
  EXPECT_THAT(logged([&] { open_image_source(folder / "other.npz", {.labels_matter = true}); }), HasSubstr("arr_1"));
}

TEST(ImageSource, UnreadableImagesAreEmptyWhereTheyAreSkipped) {
  const TemporaryFolder folder;
  add(folder / "a.png", encode_png(noise(3, 3, 3, 2)));
  add(folder / "b.png", encode_png(noise(3, 3, 3, 2)).substr(0, 50));
  add(folder / "c.jpg", "");
  const auto source = open_image_source(folder.path());
  const ReadableImages readable(*source);
  EXPECT_EQ(readable.load(0), source->load(0));
  EXPECT_TRUE(readable.load(1).pixels.empty());
  EXPECT_TRUE(readable.load(2).pixels.empty());
  ASSERT_EQ(readable.unreadable().size(), 2U);
  EXPECT_THAT(readable.unreadable().at(2), AllOf(HasSubstr("c.jpg"), HasSubstr("empty")));
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

/// The folder's files as an archive, made by the system's tar.
std::filesystem::path packed(const TemporaryFolder& folder, const std::string& name, const std::string& options) {
  const std::string line =
      text("tar -C ", (folder / "set").string(), " ", options, " -cf ", (folder / name).string(), " .");
  EXPECT_EQ(std::system(line.c_str()), 0) << line;
  return folder / name;
}

TEST(ImageTar, IsReadLikeAFolderCompressedOrNotWhateverItsNames) {
  const TemporaryFolder folder;
  const std::string deep = std::string(120, 'd') + "/" + std::string(110, 'n') + ".png";
  for (unsigned i = 0; i < 5; ++i) {
    const std::string name = i < 4 ? text("set/00", i, ".png") : "set/" + deep;
    add(folder / name, encode_png(noise(5 + static_cast<int>(i), 4, 3, i)));
  }
  add(folder / "set/000.cls", "7");
  add(folder / "set/dataset.json", R"({"labels": [["000.png", 3]]})");
  const auto truth = open_image_source(folder / "set");
  for (const auto& [name, options] : std::vector<std::pair<std::string, std::string>>{{"a.tar", "--format=gnu"},
                                                                                      {"b.TAR", "--format=pax"},
                                                                                      {"c.tar.gz", "-z"},
                                                                                      {"d.tgz", "-z"},
                                                                                      {"e.tar.xz", "-J"}}) {
    const auto tar = open_image_source(packed(folder, name, options + " --transform=s,^[.]/,,"));
    EXPECT_EQ(names_of(*tar), names_of(*truth)) << name;
    for (std::size_t i = 0; i < truth->size(); ++i) {
      EXPECT_EQ(tar->load(i), truth->load(i)) << name;
      EXPECT_EQ(tar->label(i), truth->label(i)) << name;
    }
  }
}

TEST(ImageTar, ACutOrForeignOneIsRefused) {
  const TemporaryFolder folder;
  for (unsigned i = 0; i < 3; ++i) add(folder / text("set/", i, ".png"), encode_png(noise(32, 32, 3, i)));
  const std::string whole = read_file(packed(folder, "a.tar", ""));
  for (const std::size_t size : {std::size_t{700}, whole.size() / 2}) {
    add(folder / "cut.tar", whole.substr(0, size));
    EXPECT_THAT(error_of([&] { open_image_source(folder / "cut.tar"); }), HasSubstr("cut.tar"));
  }
  for (const char* foreign : {"hello", ""}) {
    add(folder / "no.tar", foreign);
    EXPECT_THAT(error_of([&] { open_image_source(folder / "no.tar"); }), HasSubstr("no.tar"));
  }
}

TEST(ImageSource, AnExifOrientationIsCountedAndNotApplied) {
  const TemporaryFolder folder;
  const std::string jpeg = ZipReader(fixture("pictures.zip")).read(*ZipReader(fixture("pictures.zip")).find("420.jpg"));
  for (const bool big : {false, true}) {
    std::string exif = big ? std::string("MM\0*\0\0\0\x08\0\1\x01\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0", 26)
                           : std::string("II*\0\x08\0\0\0\1\0\x12\x01\3\0\1\0\0\0\6\0\0\0\0\0\0\0", 26);
    exif = std::string(
               "\xFF\xE1\0\x22"
               "Exif\0\0",
               10) +
           exif;
    add(folder / text("set/", big, ".jpg"), jpeg.substr(0, 2) + exif + jpeg.substr(2));
  }
  add(folder / "set/plain.jpg", jpeg);
  const auto source = open_image_source(folder / "set");
  for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ(source->load(i), source->load(2));
  EXPECT_EQ(source->turned(), 2u);
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
  write_file(folder / "x.rar", "x");
  EXPECT_THAT(error_of([&] { open_image_source(folder / "x.rar"); }), HasSubstr("neither a folder nor"));
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
