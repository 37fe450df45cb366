#include "apps/fid_program.h"

namespace epd::test {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

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
  for (const auto& [option, value] : {std::pair("batch", "-1"), std::pair("batch", "0"), std::pair("workers", "100000"),
                                      std::pair("workers", "-1")}) {
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
