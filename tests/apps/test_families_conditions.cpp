// What images are asked to show, how they are decoded, and what is said where a model is missing.
#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "epd/documents/manifest.h"
#include "epd/sampling/seed_noise.h"
#include "families.h"

namespace epd::test {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

/// The cache is a folder of the test's while it lasts.
class OwnCache {
 public:
  OwnCache() { ::setenv("EPD_CACHE", folder_.path().c_str(), 1); }
  ~OwnCache() { ::unsetenv("EPD_CACHE"); }
  std::filesystem::path model(const std::string& name) const {
    std::filesystem::create_directories(folder_ / ("models/" + name));
    return folder_ / ("models/" + name + "/denoiser.ts");
  }

 private:
  TemporaryFolder folder_;
};

class TextModel : public ::testing::Test {
 protected:
  TextModel() {
    options_ = family_.sampling();
    options_.method.guidance_type = GuidanceKind::kClassifierFree;
    options_.method.guidance_rate = 2;
  }
  at::Tensor of_prompt(const std::string& prompt, std::uint64_t seed) const {
    auto options = options_;
    options.condition = {};
    options.condition.prompt = prompt;
    options.seeds = {seed};
    return family_.images(options, text("prompt-", seed, "-", prompt))[0];
  }
  std::string write(const std::string& name, const std::string& bytes) const {
    write_file(family_ / name, bytes);
    return (family_ / name).string();
  }

  TinyFamily family_{Family::kText};
  SampleOptions options_;
};

TEST_F(TextModel, GivesCaptionIToSeedIWhateverTheOtherSeeds) {
  const std::string kLines = "zero\none\na red fox, \"two\"\nthree\nfour\nfive\n";
  const std::string kCsv = "id,text\n0,zero\n1,one\n2,\"a red fox, \"\"two\"\"\"\n3,three\n4,four\n5,five\n";
  for (const auto& file : {write("captions.txt", kLines), write("captions.csv", kCsv)}) {
    options_.condition.prompt_file = file;
    const auto images = family_.images(options_, std::filesystem::path(file).extension());
    EXPECT_TRUE(at::equal(images[0], of_prompt("five", 5)));
    EXPECT_TRUE(at::equal(images[1], of_prompt("zero", 0)));
    EXPECT_TRUE(at::equal(images[2], of_prompt("a red fox, \"two\"", 2)));
  }
  EXPECT_FALSE(at::equal(of_prompt("five", 5), of_prompt("four", 5)));
}

TEST_F(TextModel, RecordsThePromptsBesideTheImages) {
  options_.condition.prompt_file = write("captions.txt", "zero\none\nein schöner Tag, 晴れ\n\n\nfive");
  options_.format = SampleFormat::kPng;
  family_.sample(options_);
  const auto png = [&](const char* name) { return read_file(options_.outdir / "000000" / name); };
  EXPECT_THAT(png("000005.png"), HasSubstr(std::string("tEXtprompt\0five", 15)));
  EXPECT_THAT(png("000002.png"), HasSubstr(std::string("iTXtprompt\0\0\0\0\0", 15) + "ein schöner Tag, 晴れ"));
  EXPECT_THAT(read_file(options_.outdir / "manifest.json"), HasSubstr("prompt_file_sha256"));
}

TEST_F(TextModel, RefusesSeedsWithoutACaption) {
  options_.condition.prompt_file = write("captions.txt", "zero\none\n");
  EXPECT_THAT(error_of([&] { family_.sample(options_); }), HasSubstr("none for seed 5"));
}

TEST_F(TextModel, IsTrainedOnTheCaptionsOfAFile) {
  auto run = family_.training();
  run.options.guidance_type = GuidanceKind::kClassifierFree;
  run.options.guidance_rate = 2;
  run.options.schedule_kind = ScheduleKind::kDiscrete;
  run.options.schedule_rho = 1;
  const auto trained_on = [&](const std::string& captions) {
    run.prompt_path = write("captions.txt", captions);
    return read_file(family_.train(run) / "predictor.json");
  };
  const auto predictor = trained_on("a cat\na dog\n");
  EXPECT_NE(predictor, trained_on("a hen\nan owl\n"));
}

TEST(MsCoco, DrawsAndTrainsOnItsCaptionsWhereNoPromptIsGiven) {
  const OwnCache cache;
  auto facts = facts_of(Family::kText);
  facts.dataset_name = "ms_coco";
  const TinyFamily family(facts);
  auto options = family.sampling();
  EXPECT_THAT(error_of([&] { family.sample(options); }), HasSubstr("./launch.sh fetch ms_coco captions"));

  std::string captions = "id,text\n";
  for (int i = 0; i < 9; ++i) captions += text(i, ",caption ", std::string(1, static_cast<char>('a' + i)), "\n");
  write_file(cache.model("ms_coco").parent_path() / "MS-COCO_val2014_30k_captions.csv", captions);
  options.seeds = {7};
  const auto by_default = family.images(options, "default");
  options.condition.prompt = "caption h";
  EXPECT_TRUE(at::equal(by_default, family.images(options, "asked")));
  EXPECT_TRUE(std::filesystem::exists(family.train(family.training()) / "predictor.json"));
}

TEST(Labels, AClassIsThatOfAllImagesAndWrittenDown) {
  const TinyFamily family(Family::kOneHot);
  auto options = family.sampling();
  options.seeds = {};
  for (std::uint64_t seed = 0; seed < 12; ++seed) options.seeds.push_back(seed);
  const auto drawn = family.images(options, "drawn");
  options.condition.label = 2;
  const auto asked = family.images(options, "asked");
  const auto labels = seed_noise(options.seeds, family.facts(), at::kCPU).labels;
  for (std::int64_t i = 0; i < 12; ++i) {
    EXPECT_EQ(at::equal(asked[i], drawn[i]), labels[i].item<std::int64_t>() == 2) << "seed " << i;
  }
  EXPECT_THAT(read_file(family / "asked/manifest.json"), HasSubstr("\"class\": 2"));
  options.condition.label = 4;
  EXPECT_THAT(error_of([&] { family.sample(options); }), HasSubstr("expected 0 to 3"));
}

TEST(Labels, AModelThatAlwaysNeedsOneIsNotRunWithout) {
  const TinyFamily family(Family::kClassifier);
  auto options = family.sampling();
  for (const auto kind : {GuidanceKind::kUnconditional, GuidanceKind::kClassifierFree}) {
    options.method.guidance_type = kind;
    EXPECT_THAT(error_of([&] { family.sample(options); }), HasSubstr(name_of(kGuidanceNames, kind)));
  }
}

TEST(Latents, DecodedInSlicesAreThoseDecodedAtOnce) {
  const TinyFamily family(Family::kLatent);
  auto options = family.sampling();
  options.seeds = {0, 1, 2, 3, 4, 5, 6};
  options.decode_batch = 7;
  const auto at_once = family.images(options, "at-once");
  EXPECT_EQ(at_once.sizes(), (std::vector<std::int64_t>{7, 3, 8, 8}));
  for (const int slice : {1, 3}) {
    options.decode_batch = slice;
    EXPECT_TRUE(at::allclose(family.images(options, text("by-", slice)), at_once, 1e-5, 1e-5));
  }
}

TEST(PrecisionOption, IsThatOfTheNetworkInside) {
  auto facts = facts_of(Family::kPixels);
  facts.precision = Precision::kFloat16;  // preferred on a GPU; the CPU computes in float32 all the same
  const TinyFamily family(facts);
  auto options = family.sampling();
  const auto drawn_in = [&](Precision precision) {
    options.precision = precision;
    return family.images(options, name_of(kPrecisionNames, precision));
  };
  const auto full = drawn_in(Precision::kFloat32), half = drawn_in(Precision::kBFloat16);
  EXPECT_TRUE(at::equal(drawn_in(Precision::kAuto), full));
  const double gap = (full - half).abs().max().item<double>() / full.abs().max().item<double>();
  EXPECT_GT(gap, 1e-5);
  EXPECT_LT(gap, 0.05);  // bfloat16 has 8 bits
  EXPECT_THAT(read_file(family / "auto/manifest.json"), HasSubstr("\"precision\": \"fp32\""));
  EXPECT_THAT(read_file(family / "bf16/manifest.json"), HasSubstr("\"precision\": \"bf16\""));
}

TEST(MissingModels, AreNamedWithTheCommandThatMakesThem) {
  const OwnCache cache;
  const TinyFamily family(Family::kPixels);
  for (const char* name : {"cifar10", "ffhq", "afhqv2", "imagenet64", "lsun_bedroom", "lsun_cat", "imagenet256",
                           "lsun_bedroom_ldm", "ffhq_ldm", "ms_coco"}) {
    auto sampling = family.sampling();
    sampling.model_path.clear();
    sampling.dataset_name = name;
    auto training = family.training();
    training.model_path.clear();
    training.options.dataset_name = name;
    const auto command = text("./launch.sh model ", name);
    EXPECT_THAT(error_of([&] { family.sample(sampling); }), HasSubstr(command));
    EXPECT_THAT(error_of([&] { family.train(training); }), HasSubstr(command));
  }
}

}  // namespace
}  // namespace epd::test
