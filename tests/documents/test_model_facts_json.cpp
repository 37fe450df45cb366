#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <string>

#include "epd/core/error.h"
#include "epd/documents/model_facts_json.h"
#include "epd/files/atomic_file.h"
#include "epd/files/zip.h"
#include "support/test_files.h"

namespace epd {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;
using testing::StartsWith;

std::string error_of(const std::function<void()>& run) { return test::error_of(run, /*exit_code=*/1); }

ModelFacts some_facts() {
  ModelFacts facts;
  facts.dataset_name = "tiny";
  facts.resolution = 8;
  facts.channels = 4;
  facts.label_dim = 5;
  facts.sigma_min = 1.0 / 3;
  facts.condition = ConditionKind::kLabel;
  facts.label_format = LabelFormat::kIndex;
  facts.precision = Precision::kBFloat16;
  facts.clamp = true;
  facts.noise = TableNoise{{0.9, 0.1 + 0.2, 0.01}};
  facts.latent = LatentFacts{64, 3};
  facts.text = TextFacts{77, 768};
  facts.classifier = true;
  facts.source = {{"b.pt", "00ff"}, {"a.pt", "11"}};
  return facts;
}

std::string refusal(const std::string& from, const std::string& to) {
  std::string json = model_facts_text(some_facts());
  const auto at = json.find(from);
  EXPECT_NE(at, json.npos) << from;
  return error_of([&] { parse_model_facts(json.replace(at, from.size(), to), "model.ts: facts.json"); });
}

TEST(ModelFactsJson, ReadsBackWhatItWrote) {
  const auto json = model_facts_text(some_facts());
  const auto facts = parse_model_facts(json, "here");
  EXPECT_EQ(facts.sigma_min, 1.0 / 3);
  EXPECT_EQ(facts.label_format, LabelFormat::kIndex);
  EXPECT_EQ(facts.precision, Precision::kBFloat16);
  EXPECT_THAT(std::get<TableNoise>(facts.noise).alphas_cumprod, ElementsAre(0.9, 0.1 + 0.2, 0.01));
  EXPECT_EQ(facts.latent->image_resolution, 64);
  EXPECT_EQ(facts.text->width, 768);
  EXPECT_THAT(facts.source, ElementsAre(Pair("a.pt", "11"), Pair("b.pt", "00ff")));
  EXPECT_EQ(model_facts_text(facts), json);  // and with it all the rest
}

TEST(ModelFactsJson, PlainPixelModelsNeedNoMore) {
  ModelFacts plain;
  plain.resolution = 32;
  plain.channels = 3;
  const auto facts = parse_model_facts(model_facts_text(plain), "here");
  EXPECT_FALSE(facts.latent || facts.text || facts.classifier || facts.clamp);
  EXPECT_TRUE(std::holds_alternative<std::monostate>(facts.noise));
  plain.noise = VpNoise{19.9, 0.1};
  EXPECT_EQ(std::get<VpNoise>(parse_model_facts(model_facts_text(plain), "here").noise).beta_d, 19.9);
  plain.noise = FlowNoise{3.5};
  EXPECT_THAT(test::error_of([&] { parse_model_facts(model_facts_text(plain), "here"); }),
              HasSubstr("sigma_max: expected at most 1"));
  plain.sigma_max = 1;
  EXPECT_EQ(std::get<FlowNoise>(parse_model_facts(model_facts_text(plain), "here").noise).shift, 3.5);
  plain.noise = FlowNoise{-1};
  EXPECT_THAT(test::error_of([&] { parse_model_facts(model_facts_text(plain), "here"); }),
              HasSubstr("noise: shift: expected a positive number"));
}

TEST(ModelFactsJson, FactsOfLargerModelsMayBeAbsentAndReadBack) {
  auto facts = parse_model_facts(model_facts_text(some_facts()), "here");
  EXPECT_EQ(facts.text->rows, 77);
  EXPECT_FALSE(facts.text->zeros_unconditional || facts.guide);
  EXPECT_EQ(facts.guided_channels + facts.size_multiple, 0);
  facts.text->rows = 78;
  facts.text->zeros_unconditional = true;
  facts.guided_channels = 3;
  facts.guide = true;
  facts.size_multiple = 2;
  const auto json = model_facts_text(facts);
  EXPECT_EQ(model_facts_text(parse_model_facts(json, "here")), json);
  EXPECT_NE(json.find("\"multiple\": 2"), json.npos);
  const auto refused = [&](const std::string& from, const std::string& to) {
    auto other = json;
    other.replace(other.find(from), from.size(), to);
    return error_of([&] { parse_model_facts(other, "model.ts: facts.json"); });
  };
  EXPECT_THAT(refused("\"zeros\"", "\"ones\""), HasSubstr("unconditional: expected empty or zeros, got 'ones'"));
  EXPECT_THAT(refused("\"guided_channels\": 3", "\"guided_channels\": 5"),
              HasSubstr("guided_channels: expected 1 to 4"));
  EXPECT_THAT(refused("\"multiple\": 2", "\"multiple\": 3"), HasSubstr("multiple: 3 does not divide the resolution 8"));
  EXPECT_THAT(refused("\"rows\": 78", "\"rows\": 0"), HasSubstr("rows: expected 1 to"));
}

TEST(ModelFactsJson, RefusesOtherContractVersions) {
  EXPECT_THAT(refusal("\"contract_version\": 1", "\"contract_version\": 2"),
              AllOf(StartsWith("model.ts: facts.json: contract_version: "), HasSubstr("version 1, found 2")));
  EXPECT_THAT(refusal("contract_version", "contract"), HasSubstr("contract_version: missing"));
}

TEST(ModelFactsJson, RefusesMissingUnknownAndImpossibleFields) {
  EXPECT_THAT(refusal("\"clamp\"", "\"clamped\""), HasSubstr("clamp: missing"));
  EXPECT_THAT(refusal("\"clamp\"", "\"colour\": 1, \"clamp\""), HasSubstr("colour: unknown field"));
  EXPECT_THAT(refusal("\"noise\"", "\"noises\""), HasSubstr("noise: missing"));
  EXPECT_THAT(refusal("bfloat16", "auto"), HasSubstr("precision: expected float32, float16 or bfloat16, got 'auto'"));
  EXPECT_THAT(refusal("\"condition\": \"label\"", "\"condition\": \"image\""),
              HasSubstr("condition: expected none, label or text, got 'image'"));
  EXPECT_THAT(refusal("\"index\"", "\"words\""), HasSubstr("label_format: expected onehot or index"));
  EXPECT_THAT(refusal("\"resolution\": 8", "\"resolution\": 0"), HasSubstr("resolution: expected 1 to"));
  EXPECT_THAT(refusal("\"label_dim\": 5", "\"label_dim\": 0"),
              HasSubstr("label_dim: is 0, and the model takes labels"));
  EXPECT_THAT(refusal("\"sigma_max\": 80", "\"sigma_max\": 0.1"), HasSubstr("0 < sigma_min < sigma_max"));
  EXPECT_THAT(refusal("\"table\"", "\"cosine\""), HasSubstr("noise: kind: expected vp or table, got 'cosine'"));
  EXPECT_THAT(refusal("[0.9, ", "[0.1, "), HasSubstr("noise table: entry 1"));
  EXPECT_THAT(refusal("\"image_channels\": 3", "\"image_channels\": 3.5"), HasSubstr("latent: image_channels"));
  EXPECT_THAT(refusal("\"00ff\"", "12"), HasSubstr("source: b.pt: expected a string, found number"));
}

class ModelFile : public testing::Test {
 protected:
  ~ModelFile() override { fs::remove(path_); }

  void write(const std::string& entry, const std::string& content) {
    ZipWriter zip(path_);
    zip.add("archive/data.pkl", "code");
    zip.add("archive/constants.pkl", "more code");
    if (!entry.empty()) zip.add(entry, content);
    zip.finish();
  }
  std::string error() {
    return error_of([&] { read_model_facts(path_); });
  }

  fs::path path_ = fs::path(testing::TempDir()) /
                   (std::string("epd-facts-") + testing::UnitTest::GetInstance()->current_test_info()->name() + ".ts");
};

TEST_F(ModelFile, GivesItsFactsWhateverItsArchiveIsCalled) {
  write("some name/extra/facts.json", model_facts_text(some_facts()));
  EXPECT_EQ(read_model_facts(path_).dataset_name, "tiny");
}

TEST_F(ModelFile, WithoutFactsIsRefused) {
  write("", "");
  EXPECT_THAT(error(), AllOf(HasSubstr(path_.string()), HasSubstr("TorchScript file without facts.json")));
  write("archive/code/extra/facts.json", model_facts_text(some_facts()));
  EXPECT_THAT(error(), HasSubstr("without facts.json"));
}

TEST_F(ModelFile, OfAnotherKindIsRefused) {
  EXPECT_THAT(error(), HasSubstr(path_.string()));  // missing
  write_file(path_, "not an archive");
  EXPECT_THAT(error(), HasSubstr(path_.string()));
  ZipWriter zip(path_);
  zip.add("00000/img.png", "pixels");
  zip.finish();
  EXPECT_THAT(error(), HasSubstr("not a TorchScript file"));
}

TEST_F(ModelFile, CutShortIsRefusedAnywhere) {
  write("archive/extra/facts.json", model_facts_text(some_facts()));
  const std::string whole = read_file(path_);
  for (std::size_t size = 0; size < whole.size(); size += 97) {
    write_file(path_, whole.substr(0, size));
    EXPECT_THAT(error(), HasSubstr(path_.string())) << size;
  }
}

TEST_F(ModelFile, WithBrokenFactsIsRefusedWithTheFileAndTheField) {
  write("archive/extra/facts.json", "{\"contract_version\": 7}");
  EXPECT_THAT(error(), StartsWith(path_.string() + ": facts.json: contract_version: "));
}

TEST(DemoModel, SaysItsFacts) {
  const auto facts = read_model_facts(fs::path(EPD_SOURCE_DIR) / "models/demo/denoiser.ts");
  EXPECT_EQ(facts.resolution, 32);
  EXPECT_EQ(facts.label_dim, 8);
  EXPECT_EQ(facts.condition, ConditionKind::kLabel);
  EXPECT_EQ(facts.sigma_max, 80);
}

}  // namespace
}  // namespace epd
