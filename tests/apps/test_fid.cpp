#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "apps/sample_program.h"
#include "epd/files/npz.h"
#include "epd/files/zip.h"
#include "epd/images/png.h"

namespace epd::test {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

std::size_t count(const std::string& text, const std::string& part) {
  std::size_t found = 0;
  for (auto at = text.find(part); at != text.npos; at = text.find(part, at + 1)) ++found;
  return found;
}

/// The program `fid` on pictures of noise, with the demo's feature network.
class FidProgram : public ::testing::Test {
 protected:
  FidProgram() {
    for (unsigned i = 0; i < 90; ++i) write_picture("images", i, noise(16, 16, 3, i));
    for (unsigned i = 0; i < 70; ++i) write_picture("real", i, noise(16, 16, 3, 1000 + i));
  }
  void write_picture(const std::string& folder, unsigned number, const Image& image) {
    write(text(folder, "/", number, ".png"), encode_png(image));
  }
  void write(const std::string& name, const std::string& bytes) {
    fs::create_directories((folder_ / name).parent_path());
    write_file(folder_ / name, bytes);
  }
  std::string path(const std::string& name) const { return (folder_ / name).string(); }

  Child start(Arguments arguments, const Environment& environment) const {
    arguments.insert(arguments.begin(), std::string(EPD_BINARY_DIR) + "/bin/fid");
    return Child(arguments, environment, logs_.path().string());
  }
  Ended run(const Arguments& arguments, const Environment& environment = {}) const {
    return start(arguments, environment).wait(std::chrono::seconds(120));
  }
  std::vector<Ended> run_by(int size, const Arguments& arguments) const {
    return run_job(size, [&](const Environment& rank) { return start(arguments, rank); });
  }
  Arguments calc(const Arguments& more = {}) const {
    Arguments result{"calc",       "--images", path("images"), "--ref", path("real"),
                     "--detector", "demo",     "--device",     "cpu"};
    result.insert(result.end(), more.begin(), more.end());
    return result;
  }
  Arguments ref(const std::string& dest, const Arguments& more = {}) const {
    Arguments result{"ref", "--data", path("images"), "--dest", path(dest), "--detector", "demo", "--device", "cpu"};
    result.insert(result.end(), more.begin(), more.end());
    return result;
  }
  Arrays statistics(const std::string& dest) const { return read_npz(path(dest)); }
  nlohmann::json json(const std::string& name) const { return nlohmann::json::parse(read_file(path(name))); }
  void refuses(const Arguments& arguments, int code, const std::string& reason) const {
    const auto ended = run(arguments);
    EXPECT_EQ(ended.exit_code, code) << ended.errors;
    EXPECT_THAT(ended.errors, HasSubstr(reason));
    EXPECT_EQ(count(ended.errors, "error: "), 1U) << ended.errors;
    EXPECT_EQ(ended.output, "");
  }

  TemporaryFolder folder_, logs_;
};

TEST_F(FidProgram, TheNumberStandsAloneOnTheLastLine) {
  const auto ended = run(calc({"--json", path("record.json")}));
  ASSERT_EQ(ended.exit_code, 0) << ended.errors;
  const auto record = json("record.json");
  EXPECT_NEAR(std::stod(ended.output), record["fid"].get<double>(), 1e-5 * record["fid"].get<double>());
  EXPECT_EQ(record["images"]["num"], 90);
  EXPECT_EQ(record["reference"]["num"], 70);
  EXPECT_EQ(record["detector"], "demo");
  EXPECT_EQ(record["options"]["metrics"], "fid");
}

TEST_F(FidProgram, AnyNumberOfProcessesGivesTheSameStatistics) {
  ASSERT_EQ(run(ref("one.npz", {"--save_features"})).exit_code, 0);
  const auto one = statistics("one.npz");
  for (const int processes : {2, 3}) {
    for (const auto& ended : run_by(processes, ref("many.npz", {"--save_features"}))) {
      ASSERT_EQ(ended.exit_code, 0) << ended.errors;
    }
    const auto many = statistics("many.npz");
    EXPECT_EQ(many.at("count").as_int64s(), one.at("count").as_int64s());
    for (const auto* name : {"mu", "sigma", "features"}) {
      const auto expected = one.at(name).as_doubles(), found = many.at(name).as_doubles();
      ASSERT_EQ(found.size(), expected.size());
      const double largest = std::abs(*std::ranges::max_element(expected, {}, [](double v) { return std::abs(v); }));
      for (std::size_t i = 0; i < found.size(); ++i) ASSERT_NEAR(found[i], expected[i], 1e-12 * largest) << name;
    }
  }
}

TEST_F(FidProgram, AJobRemarksOnceWhatAllItsProcessesSee) {
  write("images/notes.txt", "x");
  std::string errors;
  for (const auto& ended : run_by(3, calc())) {
    ASSERT_EQ(ended.exit_code, 0) << ended.errors;
    errors += ended.errors;
  }
  EXPECT_EQ(count(errors, "warning: "), 1U) << errors;
}

TEST_F(FidProgram, AJobRefusesOnceWhatAllItsProcessesSee) {
  for (const auto& [more, exit_code] : {std::pair{Arguments{"--metrics", "beauty"}, 2}, {{"--ref", path("none")}, 1}}) {
    const auto ended = run_by(3, calc(more));
    for (const auto& rank : ended) EXPECT_EQ(rank.exit_code, exit_code);
    EXPECT_EQ(count(all_errors(ended), "error: "), 1U) << all_errors(ended);
  }
}

TEST_F(FidProgram, PicturesAreChosenAsEdmChooses) {
  ASSERT_EQ(run(ref("some.npz", {"--num", "20", "--seed", "7"})).exit_code, 0);
  EXPECT_EQ(statistics("some.npz").at("count").as_int64s().front(), 20);
  ASSERT_EQ(run(ref("same.npz", {"--num", "20", "--seed", "7"})).exit_code, 0);
  EXPECT_EQ(read_file(path("some.npz")), read_file(path("same.npz")));
  ASSERT_EQ(run(ref("other.npz", {"--num", "20", "--seed", "8"})).exit_code, 0);
  EXPECT_NE(statistics("other.npz").at("mu").bytes, statistics("some.npz").at("mu").bytes);
  refuses(ref("many.npz", {"--num", "91"}), 1, "found 90 images, --num asks for 91");
  refuses(ref("many.npz", {"--num", "1"}), 2, "num");
}

TEST_F(FidProgram, FoldersZipsAndArraysOfTheSamePicturesAreTheSame) {
  ZipWriter zip(path("images.zip"));
  std::vector<std::string> names;
  for (unsigned i = 0; i < 90; ++i) names.push_back(text(i, ".png"));
  for (const auto& name : names) zip.add(name, read_file(folder_ / "images" / name));
  zip.finish();
  std::ranges::sort(names);
  std::vector<std::uint8_t> pixels;
  for (const auto& name : names) {
    const auto image = decode_png(read_file(folder_ / "images" / name), name);
    pixels.insert(pixels.end(), image.pixels.begin(), image.pixels.end());
  }
  write_npz(path("array.npz"), {{"arr_0", Array::uint8s({90, 16, 16, 3}, pixels)}});
  ASSERT_EQ(run(ref("folder.npz")).exit_code, 0);
  for (const char* source : {"images.zip", "array.npz"}) {
    ASSERT_EQ(run(ref("other.npz", {"--data", path(source)})).exit_code, 0);
    EXPECT_EQ(statistics("other.npz").at("sigma").bytes, statistics("folder.npz").at("sigma").bytes) << source;
  }
}

TEST_F(FidProgram, MixedSizesNeedToBeAllowed) {
  write_picture("images", 200, noise(24, 20, 3, 1));
  refuses(calc(), 1, "20x24");
  EXPECT_EQ(run(calc({"--allow_mixed_sizes"})).exit_code, 0);
}

TEST_F(FidProgram, TransparencyIsDroppedOrLaidOnWhite) {
  const ZipReader zip(fixture("pictures.zip"));
  for (std::size_t i = 0; i < zip.size(); ++i) {
    if (zip.entries()[i].name.starts_with("rgba")) write("alpha/" + zip.entries()[i].name, zip.read(i));
  }
  const auto sigma = [&](const Arguments& more) {
    Arguments arguments = ref("alpha.npz", {"--data", path("alpha")});
    arguments.insert(arguments.end(), more.begin(), more.end());
    const auto ended = run(arguments);
    EXPECT_EQ(ended.exit_code, 0) << ended.errors;
    return statistics("alpha.npz").at("mu").bytes;
  };
  EXPECT_EQ(sigma({}), sigma({"--alpha", "drop"}));
  EXPECT_NE(sigma({}), sigma({"--alpha", "white"}));
  refuses(ref("alpha.npz", {"--alpha", "black"}), 2, "expected drop or white");
}

TEST_F(FidProgram, DamagedArchivesAreNamedAndLeaveTheOldFile) {
  ZipWriter zip(path("damaged.zip"));
  for (unsigned i = 0; i < 9; ++i) zip.add(text(i, ".png"), read_file(folder_ / "images" / text(i, ".png")));
  zip.finish();
  auto bytes = read_file(path("damaged.zip"));
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 1);
  write("damaged.zip", bytes);
  write("old.npz", "old");
  refuses(ref("old.npz", {"--data", path("damaged.zip")}), 1, ".png");
  write("damaged.zip", bytes.substr(0, bytes.size() / 2));
  refuses(ref("old.npz", {"--data", path("damaged.zip")}), 1, "damaged.zip");
  EXPECT_EQ(read_file(path("old.npz")), "old");
  refuses(ref("old.npz", {"--data", path("nowhere")}), 1, "does not exist");
  refuses(ref("/dev/null"), 1, "/dev/null");
}

TEST_F(FidProgram, NumbersThatNoMachineHasAreRefusedByOption) {
  for (const auto& [option, value] :
       {std::pair("batch", "-1"), std::pair("batch", "0"), std::pair("workers", "100000"), std::pair("workers", "0")}) {
    refuses(ref("refused.npz", {text("--", option), value}), 2, option);
    EXPECT_FALSE(fs::exists(path("refused.npz")));
  }
}

TEST_F(FidProgram, StatisticsOfAnotherNetworkAreRefused) {
  auto arrays = Arrays{{"mu", Array::doubles({2}, {0, 0})}, {"sigma", Array::doubles({2, 2}, {1, 0, 0, 1})}};
  write_npz(path("foreign.npz"), arrays);
  refuses(calc({"--ref", path("foreign.npz")}), 1, "has 2 of detector unknown");
  arrays.erase("sigma");
  write_npz(path("foreign.npz"), arrays);
  refuses(calc({"--ref", path("foreign.npz")}), 1, "no array 'sigma'");
}

TEST_F(FidProgram, ANameMeansPublishedStatisticsInTheCache) {
  const Environment cache{{"EPD_CACHE", path("cache")}};
  const auto missing = run(calc({"--ref", "cifar10"}), cache);
  EXPECT_EQ(missing.exit_code, 1);
  EXPECT_THAT(missing.errors, AllOf(HasSubstr("cifar10-32x32.npz"), HasSubstr("./launch.sh fetch cifar10 statistics")));
  ASSERT_EQ(run(ref("reference.npz")).exit_code, 0);
  write("cache/statistics/cifar10-32x32.npz", read_file(path("reference.npz")));
  const auto found = run(calc({"--ref", "cifar10"}), cache);
  EXPECT_EQ(found.exit_code, 0) << found.errors;
  EXPECT_LT(std::stod(found.output), 1e-6);  // of the pictures themselves
}

TEST_F(FidProgram, ADetectorPutIntoTheCacheIsKnownByItsName) {
  const Environment cache{{"EPD_CACHE", path("cache")}};
  write("cache/models/mine/mine.ts", read_file(fs::path(EPD_SOURCE_DIR) / "models/demo/features.ts"));
  const auto named = run(ref("named.npz", {"--detector", "mine"}), cache);
  ASSERT_EQ(named.exit_code, 0) << named.errors;
  EXPECT_EQ(statistics("named.npz").at("detector").as_text(), "mine");
  EXPECT_THAT(run(ref("named.npz", {"--detector", "yours"}), cache).errors, HasSubstr("models/yours/yours.ts"));
}

TEST_F(FidProgram, KeptFeaturesServeEveryMetric) {
  ASSERT_EQ(run(calc({"--metrics", "fid,kid,prdc", "--json", path("pictures.json")})).exit_code, 0);
  ASSERT_EQ(run(ref("real.npz", {"--data", path("real"), "--save_features"})).exit_code, 0);
  const auto ended =
      run(calc({"--metrics", "fid,kid,prdc", "--ref", path("real.npz"), "--json", path("statistics.json")}));
  ASSERT_EQ(ended.exit_code, 0) << ended.errors;
  for (const auto* metric : {"fid", "kid", "prdc"})
    EXPECT_EQ(json("pictures.json")[metric], json("statistics.json")[metric]);
  ASSERT_EQ(run(ref("plain.npz", {"--data", path("real")})).exit_code, 0);
  refuses(calc({"--metrics", "kid", "--ref", path("plain.npz")}), 1, "--save_features");
}

TEST_F(FidProgram, WhatCanBeRefusedIsRefusedBeforeANetworkIsOpened) {
  // The detector does not exist: had it been opened first, the message would name it.
  const Arguments detector{"--detector", "no-such-network"};
  const auto with = [&](Arguments arguments, const Arguments& more) {
    arguments.insert(arguments.end(), more.begin(), more.end());
    arguments.insert(arguments.end(), detector.begin(), detector.end());
    return arguments;
  };
  refuses(with(calc(), {"--images", path("imags")}), 1, "imags does not exist");
  refuses(with(calc(), {"--images", path("imags"), "--ref", "cifar10"}), 1, "imags does not exist");
  refuses(with(calc(), {"--ref", path("reel")}), 1, "reel does not exist");
  refuses(with(calc(), {"--num", "5000"}), 1, "found 90 images, --num asks for 5000");
  refuses(with(ref("x.npz"), {"--num", "91"}), 1, "found 90 images");
  refuses(with(ref("x.npz"), {"--data", path("reel")}), 1, "reel does not exist");
  ASSERT_EQ(run(ref("plain.npz")).exit_code, 0);
  refuses(with(calc(), {"--metrics", "prdc", "--ref", path("plain.npz")}), 1, "--save_features");
}

TEST_F(FidProgram, StatisticsAreKnownByTheirContentAndNameTheirDetector) {
  for (const char* name : {"plain", "statistics.dat", "x.zip"}) {
    ASSERT_EQ(run(ref(name)).exit_code, 0);
    const auto ended = run({"calc", "--images", path("images"), "--ref", path(name), "--device", "cpu"});
    ASSERT_EQ(ended.exit_code, 0) << ended.errors;  // with the detector that the statistics name
    EXPECT_LT(std::stod(ended.output), 1e-6);
  }
  auto arrays = statistics("plain");
  arrays["detector"] = Array::text("../elsewhere/net");
  write_npz(path("strange.npz"), arrays);
  refuses({"calc", "--images", path("images"), "--ref", path("strange.npz"), "--device", "cpu"}, 1, "--detector");
}

TEST_F(FidProgram, StatisticsThatNameNoDetectorAreRemarkedOn) {
  ASSERT_EQ(run(ref("named.npz")).exit_code, 0);
  auto arrays = statistics("named.npz");
  arrays.erase("detector");
  arrays.erase("detector_sha256");
  write_npz(path("unnamed.npz"), arrays);
  const Environment cache{{"EPD_CACHE", path("cache")}};
  write("cache/models/inception/inception.ts", read_file(fs::path(EPD_SOURCE_DIR) / "models/demo/features.ts"));
  const Arguments unnamed{"calc", "--images", path("images"), "--ref", path("unnamed.npz"), "--device", "cpu"};
  EXPECT_THAT(run(unnamed, cache).errors, AllOf(HasSubstr("inception is assumed"), HasSubstr("--detector")));
  EXPECT_THAT(run(calc({"--ref", path("unnamed.npz")})).errors, Not(HasSubstr("assumed")));
}

TEST_F(FidProgram, UnreadableImagesStopTheRunOrAreSkippedAndCounted) {
  write("images/00.png", "damaged");
  write("images/5.png", encode_png(noise(16, 16, 3, 5)).substr(0, 90));
  refuses(calc(), 1, "00.png");
  refuses(ref("x.npz"), 1, "00.png");
  refuses(calc({"--on_bad", "ignore"}), 2, "expected stop or skip");
  const auto ended = run(calc({"--on_bad", "skip", "--json", path("one.json"), "--report", path("one.html")}));
  ASSERT_EQ(ended.exit_code, 0) << ended.errors;
  EXPECT_THAT(ended.errors, AllOf(HasSubstr("2 of 91 images are skipped"), HasSubstr("00.png")));
  EXPECT_EQ(json("one.json")["images"]["skipped"], 2);
  EXPECT_EQ(json("one.json")["images"]["num"], 89);
  EXPECT_EQ(json("one.json")["reference"]["skipped"], 0);
  for (const auto& rank : run_by(3, calc({"--on_bad", "skip", "--json", path("many.json")}))) {
    ASSERT_EQ(rank.exit_code, 0) << rank.errors;
  }
  EXPECT_EQ(json("many.json")["images"], json("one.json")["images"]);
  ASSERT_EQ(run(ref("skipped.npz", {"--on_bad", "skip"})).exit_code, 0);
  EXPECT_EQ(statistics("skipped.npz").at("skipped").as_int64s().front(), 2);
  fs::remove(folder_ / "images/00.png");
  fs::remove(folder_ / "images/5.png");
  ASSERT_EQ(run(ref("whole.npz")).exit_code, 0);
  EXPECT_EQ(statistics("whole.npz").at("sigma").bytes, statistics("skipped.npz").at("sigma").bytes);
  EXPECT_FALSE(statistics("whole.npz").contains("skipped"));
}

TEST_F(FidProgram, NamesWithControlCharactersStayOnOneLine) {
  write("odd/first\nsecond\x1b[2J.png", "damaged");
  write("odd/z.png", "damaged");
  const auto ended = run(calc({"--images", path("odd")}));
  EXPECT_EQ(ended.exit_code, 1);
  EXPECT_THAT(ended.errors, AllOf(HasSubstr("first\\nsecond\\x1b[2J.png"), HasSubstr("neither PNG nor JPEG")));
  EXPECT_THAT(run(calc({"--images", path("no\tset\n1")})).errors, HasSubstr("no\\tset\\n1 does not exist"));
}

TEST_F(FidProgram, TheRecordGoesToStdoutWhereItIsAskedFor) {
  const auto number = run(calc()).output;
  for (const char* name : {"-", "/dev/stdout"}) {
    const auto ended = run(calc({"--json", name}));
    ASSERT_EQ(ended.exit_code, 0) << ended.errors;
    ASSERT_TRUE(ended.output.ends_with(number)) << ended.output;
    const auto record = nlohmann::json::parse(ended.output.substr(0, ended.output.size() - number.size()));
    EXPECT_EQ(record["images"]["num"], 90);
    const auto prepared = run({"prepare", "--source", path("images"), "--dest", path("set.zip"), "--json", name});
    EXPECT_THAT(prepared.output, AllOf(HasSubstr("\"num_images\": 90"), HasSubstr("set.zip\n")));
  }
  EXPECT_FALSE(fs::exists("-"));
}

TEST_F(FidProgram, SeedsReachAsFarAsNumpys) {
  ASSERT_EQ(run(ref("last.npz", {"--num", "20", "--seed", "4294967295"})).exit_code, 0);
  ASSERT_EQ(run(ref("half.npz", {"--num", "20", "--seed", "2147483648"})).exit_code, 0);
  EXPECT_NE(statistics("last.npz").at("mu").bytes, statistics("half.npz").at("mu").bytes);
  refuses(ref("x.npz", {"--num", "20", "--seed", "4294967296"}), 2, "4294967295");
  refuses(ref("x.npz", {"--num", "20", "--seed", "-1"}), 2, "seed");
}

TEST_F(FidProgram, TwoPathsAndAddressesAreAnsweredWithTheCommand) {
  refuses({path("images"), path("real")}, 2, text("fid calc --images ", path("images"), " --ref ", path("real")));
  refuses(calc({"--ref", "https://example.invalid/reference.npz"}), 1, "curl -LO");
}

TEST_F(FidProgram, FewImagesAreRemarkedOnForKid) {
  EXPECT_THAT(run(calc({"--metrics", "kid"})).errors, HasSubstr("KID of subsets of 70 images"));
}

TEST_F(FidProgram, AReportIsOnePageBesideTheNumber) {
  const auto ended = run(calc({"--report", path("report/page.html")}));
  ASSERT_EQ(ended.exit_code, 0) << ended.errors;
  EXPECT_EQ(ended.output, run(calc()).output);
  EXPECT_THAT(read_file(path("report/page.html")),
              AllOf(HasSubstr("<!DOCTYPE html>"), HasSubstr("Nearest neighbours"), HasSubstr("<dt>its limits</dt>"),
                    HasSubstr("<dt>date</dt><dd>20")));
}

TEST_F(FidProgram, ADatasetIsPreparedAndScoredAsTheFolderItCameFrom) {
  const auto ended =
      run({"prepare", "--source", path("images"), "--dest", path("set.zip"), "--json", path("set.json")});
  ASSERT_EQ(ended.exit_code, 0) << ended.errors;
  EXPECT_EQ(ended.output, path("set.zip") + "\n");
  EXPECT_EQ(json("set.json")["num_images"], 90);
  ASSERT_EQ(run(ref("folder.npz")).exit_code, 0);
  ASSERT_EQ(run(ref("set.npz", {"--data", path("set.zip")})).exit_code, 0);
  EXPECT_EQ(statistics("set.npz").at("sigma").bytes, statistics("folder.npz").at("sigma").bytes);
  refuses({"prepare", "--source", path("images"), "--dest", path("set.zip"), "--resolution", "12"}, 2, "64x64");
}

}  // namespace
}  // namespace epd::test
