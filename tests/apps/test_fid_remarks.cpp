#include "apps/fid_program.h"

namespace epd::test {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

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
  EXPECT_THAT(ended.errors, AllOf(HasSubstr("first\\nsecond\\x1b[2J.png"), HasSubstr("is not a PNG, JPEG")));
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

}  // namespace
}  // namespace epd::test
