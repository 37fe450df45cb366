#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <chrono>
#include <csignal>
#include <mutex>
#include <set>
#include <thread>

#include "epd/files/atomic_file.h"
#include "epd/files/zip.h"
#include "epd/images/image_source.h"
#include "epd/images/image_writer.h"
#include "support/test_files.h"

namespace epd {
namespace {

using test::error_of;
using test::FileSizeLimit;
using test::noise;
using test::TemporaryFolder;
using ::testing::AllOf;
using ::testing::HasSubstr;

std::string name_of(int i) { return text("0000", i / 10, "/", 100000 + i, ".png"); }

TEST(ImageWriter, WritesEveryPictureOfAFolderWhole) {
  const TemporaryFolder folder;
  ImageWriter writer(folder_sink(folder / "out"), {3, 4});
  for (int i = 0; i < 50; ++i) writer.push(name_of(i), noise(9, 7, 3, static_cast<unsigned>(i)));
  writer.finish();
  EXPECT_EQ(writer.written(), 50u);
  const auto source = open_image_source(folder / "out");
  ASSERT_EQ(source->size(), 50u);
  for (int i = 0; i < 50; ++i) {
    EXPECT_EQ(source->name(static_cast<std::size_t>(i)), name_of(i));
    EXPECT_EQ(source->load(static_cast<std::size_t>(i)), noise(9, 7, 3, static_cast<unsigned>(i)));
  }
  writer.finish();  // once more changes nothing
  EXPECT_THAT(error_of([&] { writer.push("x.png", Image(1, 1, 3)); }), HasSubstr("finished"));
}

TEST(ImageWriter, AnArchiveHasTheOrderOfThePushesWhateverTheThreads) {
  const TemporaryFolder folder;
  for (const int threads : {1, 4}) {
    ImageWriter writer(zip_sink(folder / text(threads, ".zip")), {threads, 3});
    // Large and small in turn, so that later pictures are encoded sooner.
    for (int i = 0; i < 40; ++i) {
      writer.push(text(99 - i, ".png"), noise(i % 4 == 0 ? 90 : 2, 30, 3, static_cast<unsigned>(i)));
    }
    writer.finish();
  }
  const ZipReader reader(folder / "4.zip");
  ASSERT_EQ(reader.size(), 40u);
  for (int i = 0; i < 40; ++i) EXPECT_EQ(reader.entries()[static_cast<std::size_t>(i)].name, text(99 - i, ".png"));
  EXPECT_EQ(read_file(folder / "1.zip"), read_file(folder / "4.zip"));
}

/// A disk that takes its time, fails at a given picture, or both.
class TestSink : public ImageSink {
 public:
  TestSink(bool ordered, int delay_ms, int failing = -1) : ordered_(ordered), delay_ms_(delay_ms), failing_(failing) {}
  void write(const std::string& name, std::string_view) override {
    std::this_thread::sleep_for(std::chrono::milliseconds(delay_ms_));
    const std::lock_guard lock(mutex);
    EPD_REQUIRE(calls != failing_, "cannot write ", name, ": No space left on device");
    ++calls;
    names.push_back(name);
  }
  bool needs_order() const override { return ordered_; }

  std::mutex mutex;
  int calls = 0;
  std::vector<std::string> names;

 private:
  bool ordered_;
  int delay_ms_, failing_;
};

class AnyOrder : public ::testing::TestWithParam<bool> {};

TEST_P(AnyOrder, ASlowDiskHoldsThePusherBackSoThatMemoryIsBounded) {
  auto sink = std::make_unique<TestSink>(GetParam(), 3);
  TestSink& disk = *sink;
  ImageWriter writer(std::move(sink), {2, 5});
  for (int i = 0; i < 60; ++i) {
    writer.push(name_of(i), Image(2, 2, 3));
    const std::lock_guard lock(disk.mutex);
    EXPECT_LE(i + 1 - disk.calls, 5 + 2);  // the queue and what the threads hold
  }
  writer.finish();
  EXPECT_EQ(disk.calls, 60);
}

TEST_P(AnyOrder, TheFirstFailureIsThrownByPushAndFinishWithTheFilesName) {
  ImageWriter writer(std::make_unique<TestSink>(GetParam(), 0, 5), {3, 4});
  const std::string message = error_of([&] {
    for (int i = 0; i < 1000; ++i) writer.push(name_of(i), Image(2, 2, 3));
  });
  EXPECT_THAT(message, AllOf(HasSubstr(".png"), HasSubstr("No space left")));
  EXPECT_EQ(error_of([&] { writer.push("more.png", Image(2, 2, 3)); }), message);
  EXPECT_EQ(error_of([&] { writer.finish(); }), message);
}

TEST_P(AnyOrder, AFailureAtTheLastPictureIsThrownByFinish) {
  ImageWriter writer(std::make_unique<TestSink>(GetParam(), 1, 9), {3, 64});
  for (int i = 0; i < 10; ++i) writer.push(name_of(i), Image(2, 2, 3));
  EXPECT_THAT(error_of([&] { writer.finish(); }), HasSubstr("No space left"));
}

TEST_P(AnyOrder, DroppedUnfinishedItEndsWithoutWritingTheRest) {
  auto sink = std::make_unique<TestSink>(GetParam(), 5);
  {
    ImageWriter writer(std::move(sink), {2, 100});
    for (int i = 0; i < 100; ++i) writer.push(name_of(i), Image(2, 2, 3));
    EXPECT_LT(writer.written(), 100u);
  }
  SUCCEED();
}

INSTANTIATE_TEST_SUITE_P(Sink, AnyOrder, ::testing::Bool(),
                         [](const auto& test) { return test.param ? "InOrder" : "InAnyOrder"; });

TEST(ImageWriter, AFullDiskNamesTheFileAndLeavesWholePicturesAlone) {
  const TemporaryFolder folder;
  ImageWriter writer(folder_sink(folder / "out"), {2, 4});
  const std::string message = error_of([&] {
    const FileSizeLimit limit(10'000);
    for (int i = 0; i < 10; ++i) writer.push(text(i, ".png"), noise(16, 16, 3, 1));
    writer.push("large.png", noise(100, 100, 3, 1));
    writer.finish();
  });
  EXPECT_THAT(message, AllOf(HasSubstr("large.png"), HasSubstr("File too large")));
  EXPECT_FALSE(std::filesystem::exists(folder / "out/large.png"));
  for (const auto& entry : std::filesystem::directory_iterator(folder / "out")) {
    EXPECT_FALSE(is_temporary_name(entry.path().filename().string()));
    EXPECT_EQ(decode_png(read_file(entry.path()), "x"), noise(16, 16, 3, 1));
  }
}

TEST(ImageWriter, APictureThatCannotBeEncodedIsNamed) {
  const TemporaryFolder folder;
  ImageWriter writer(folder_sink(folder / "out"));
  writer.push("odd.png", Image(2, 2, 4));
  EXPECT_THAT(error_of([&] { writer.finish(); }), AllOf(HasSubstr("odd.png"), HasSubstr("4")));
}

TEST(ImageWriter, FilesThatAreCompleteAlreadyAreStoredAsTheyAre) {
  const TemporaryFolder folder;
  ImageWriter writer(folder_sink(folder.path()));
  writer.push_bytes("a.npy", "bytes");
  writer.push_bytes("empty.txt", "");
  writer.finish();
  EXPECT_EQ(read_file(folder / "a.npy"), "bytes");
  EXPECT_EQ(read_file(folder / "empty.txt"), "");
  ImageWriter other(folder_sink(folder.path()));
  other.push("nothing.png", Image());
  EXPECT_THAT(error_of([&] { other.finish(); }), HasSubstr("nothing.png"));
}

TEST(ImageWriter, NamesThatLeaveTheFolderAreRefused) {
  const TemporaryFolder folder;
  for (const char* name : {"../x.png", "/tmp/x.png", "a/../../x.png", "", "a/"}) {
    ImageWriter writer(folder_sink(folder / "out"));
    writer.push(name, Image(2, 2, 3));
    EXPECT_THAT(error_of([&] { writer.finish(); }), HasSubstr("inside its folder")) << name;
  }
}

TEST(ImageWriter, AFolderThatCannotBeMadeIsAnError) {
  const TemporaryFolder folder;
  write_file(folder / "file", "x");
  EXPECT_THAT(error_of([&] { folder_sink(folder / "file"); }), HasSubstr("file"));
  EXPECT_THAT(error_of([&] { folder_sink(folder / "file/below"); }), HasSubstr("file/below"));
  ImageWriter writer(folder_sink(folder / "out"));
  write_file(folder / "out/00000", "in the way");
  writer.push("00000/x.png", Image(2, 2, 3));
  EXPECT_THAT(error_of([&] { writer.finish(); }), HasSubstr("out/00000"));
}

TEST(ImageWriter, WithoutFinishNoArchiveAppears) {
  const TemporaryFolder folder;
  {
    ImageWriter writer(zip_sink(folder / "x.zip"));
    writer.push("a.png", Image(2, 2, 3));
  }
  EXPECT_EQ(folder.count(), 0u);
}

/// Waits until a file without a hidden name stands in the folder.
void wait_for_a_file_in(const std::filesystem::path& folder) {
  for (int tenths = 0; tenths < 600; ++tenths) {
    std::error_code none_yet;
    for (const auto& entry : std::filesystem::directory_iterator(folder, none_yet)) {
      if (!entry.path().filename().string().starts_with('.')) return;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
}

TEST(ImageWriter, AKilledProcessLeavesWholePicturesUnderFinalNames) {
  const TemporaryFolder folder;
  for (int trial = 0; trial < 5; ++trial) {
    const pid_t child = ::fork();
    if (child == 0) {
      ImageWriter writer(folder_sink(folder / "out"), {2, 8});
      for (int i = 0;; ++i) writer.push(name_of(i % 100), noise(64, 64, 3, 1));
    }
    if (trial == 0) wait_for_a_file_in(folder / "out");
    std::this_thread::sleep_for(std::chrono::milliseconds(30 + 10 * trial));
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    const auto source = open_image_source(folder / "out");  // unfinished files have hidden names
    for (std::size_t i = 0; i < source->size(); ++i) EXPECT_EQ(source->load(i), noise(64, 64, 3, 1));
  }
}

}  // namespace
}  // namespace epd
