#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "epd/files/atomic_file.h"
#include "epd/files/options_json.h"
#include "epd/sampling/output_folder.h"
#include "support/test_files.h"

namespace epd {
namespace {

namespace fs = std::filesystem;
using test::error_of;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

Manifest manifest_with(const std::string& solver) {
  Manifest manifest;
  manifest.settings = {{"solver", solver}, {"rate", 1.5}};
  manifest.run = {{"batch", 64}};
  return manifest;
}

class AnOutputFolder : public ::testing::Test {
 protected:
  /// As a run does it: opens the folder and closes it again.
  void run(const std::string& solver, OutputFolder::Options options = {}) {
    OutputFolder(layout_, manifest_with(solver), options);
  }
  void put(const std::string& name, const std::string& bytes = "x") {
    fs::create_directories((layout_.folder / name).parent_path());
    write_file(layout_.folder / name, bytes);
  }
  bool has(const std::string& name) const { return fs::exists(layout_.folder / name); }

  test::TemporaryFolder temporary_;
  OutputLayout layout_{temporary_ / "images"};
};

TEST_F(AnOutputFolder, IsMadeWithItsManifest) {
  run("epd");
  const auto there = read_manifest(layout_.folder);
  ASSERT_TRUE(there);
  EXPECT_FALSE(first_difference(there->settings, manifest_with("epd").settings));
  EXPECT_FALSE(has(".lock"));
}

TEST_F(AnOutputFolder, NamesWhatIsMissingInTheOrderAsked) {
  put("000000/000002.png");
  put("000000/000004.png", "");  // what a power cut leaves
  write_manifest(layout_.folder, manifest_with("epd"));
  const OutputFolder folder(layout_, manifest_with("epd"), {});
  EXPECT_THAT(folder.missing({5, 2, 4, 1}), ElementsAre(5, 4, 1));
}

TEST_F(AnOutputFolder, IsRefusedToARunWithAnotherSettingWhichItNames) {
  run("epd");
  put("000000/000001.png");
  const auto error = error_of([&] { run("heun"); });
  EXPECT_THAT(error, HasSubstr("solver is \"epd\" there and \"heun\" here"));
  EXPECT_THAT(error, HasSubstr("--overwrite"));
  EXPECT_TRUE(has("000000/000001.png"));
}

TEST_F(AnOutputFolder, TakesARunThatGoesAboutItInAnotherWay) {
  run("epd");
  auto manifest = manifest_with("epd");
  manifest.run.clear();
  manifest.run["batch"] = 7;
  EXPECT_NO_THROW(OutputFolder(layout_, manifest, {}));
}

TEST_F(AnOutputFolder, OverwritingRemovesTheRunsOwnFilesOnly) {
  run("epd");
  put("000000/000001.png");
  put("000000/notes.txt");
  put("001000/001001.npy");
  put("inters/000000/000001.npy");
  put(".parts/000000/000001.npy");
  put("images.zip");
  put("holiday.png");
  put("album/000001.png");
  run("heun", {.overwrite = true});
  for (const char* gone : {"000000/000001.png", "001000", "inters", ".parts", "images.zip"})
    EXPECT_FALSE(has(gone)) << gone;
  for (const char* kept : {"000000/notes.txt", "holiday.png", "album/000001.png"}) EXPECT_TRUE(has(kept)) << kept;
  EXPECT_FALSE(first_difference(read_manifest(layout_.folder)->settings, manifest_with("heun").settings));
}

TEST_F(AnOutputFolder, WithImagesOfUnknownOriginIsRefusedAndLeftAlone) {
  put("000000/000001.png");
  EXPECT_THAT(error_of([&] { run("epd"); }), HasSubstr("no manifest.json"));
  EXPECT_THAT(error_of([&] { run("epd", {.overwrite = true}); }), HasSubstr("no manifest.json"));
  EXPECT_TRUE(has("000000/000001.png"));
  EXPECT_FALSE(has("manifest.json"));
}

TEST_F(AnOutputFolder, WithADamagedManifestIsRefused) {
  run("epd");
  put("manifest.json", "{\"format\": \"epd-sam");
  EXPECT_THAT(error_of([&] { run("epd"); }), HasSubstr("manifest.json"));
}

TEST_F(AnOutputFolder, WithFinishedImagesIsRefusedWithoutResume) {
  run("epd");
  EXPECT_NO_THROW(run("epd", {.resume = false}));
  put("000000/000001.png");
  EXPECT_THAT(error_of([&] { run("epd", {.resume = false}); }), HasSubstr("--overwrite"));
}

TEST_F(AnOutputFolder, LosesTheUnfinishedFilesOfAKilledRun) {
  run("epd");
  put("000000/.epd-tmp-1-2-3");
  put("inters/000000/.epd-tmp-1-2-3");
  run("epd");
  EXPECT_FALSE(has("000000/.epd-tmp-1-2-3"));
  EXPECT_FALSE(has("inters/000000/.epd-tmp-1-2-3"));
}

TEST_F(AnOutputFolder, IsOneRunsAtATime) {
  const OutputFolder first(layout_, manifest_with("epd"), {});
  EXPECT_THAT(error_of([&] { run("epd"); }), HasSubstr(text("in use by process ", ::getpid())));
}

TEST_F(AnOutputFolder, ThatIsAFileIsRefused) {
  write_file(layout_.folder, "x");
  EXPECT_THAT(error_of([&] { run("epd"); }), HasSubstr("is a file"));
}

TEST_F(AnOutputFolder, OfStatesMissesAnImageWithoutThem) {
  layout_.save_inters = true;
  put("000000/000001.png");
  put("000000/000002.png");
  put("inters/000000/000002.npy");
  write_manifest(layout_.folder, manifest_with("epd"));
  const OutputFolder folder(layout_, manifest_with("epd"), {});
  EXPECT_THAT(folder.missing({1, 2}), ElementsAre(1));
}

TEST_F(AnOutputFolder, WithTheFileOfAllImagesMissesNone) {
  layout_.format = SampleFormat::kZip;
  put("images.zip");
  write_manifest(layout_.folder, manifest_with("epd"));
  const OutputFolder folder(layout_, manifest_with("epd"), {});
  EXPECT_TRUE(folder.is_packed_already());
  EXPECT_THAT(folder.missing({1, 2}), IsEmpty());
}

TEST(OutputLayout, NamesFilesAsPublished) {
  OutputLayout layout{"out"};
  EXPECT_EQ(layout.image_file(42), "000000/000042.png");
  EXPECT_EQ(layout.image_file(4294967295), "4294967000/4294967295.png");
  layout.subdirs = false;
  EXPECT_EQ(layout.image_file(1042), "001042.png");
}

TEST(Manifest, ComparesNumbersAsNumbersAndNotTheOrder) {
  nlohmann::ordered_json a{{"rate", 1.0}, {"solver", "epd"}}, b{{"solver", "epd"}, {"rate", 1}};
  EXPECT_FALSE(first_difference(a, b));
  b["more"] = true;
  EXPECT_THAT(first_difference(a, b).value_or(""), HasSubstr("more"));
  EXPECT_THAT(first_difference(b, a).value_or(""), HasSubstr("more"));
}

}  // namespace
}  // namespace epd
