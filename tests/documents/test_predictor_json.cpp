#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <functional>
#include <string>

#include "epd/core/error.h"
#include "epd/documents/predictor_json.h"
#include "epd/documents/run_dir.h"
#include "support/test_files.h"

namespace epd {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

std::string error_of(const std::function<void()>& run) { return test::error_of(run, /*exit_code=*/1); }

PredictorSpec some_predictor() {
  PredictorSpec spec;
  spec.dataset_name = "demo";
  spec.resolution = 32;
  spec.channels = 3;
  spec.label_dim = 8;
  spec.num_steps = 3;
  spec.num_points = 2;
  spec.schedule = {ScheduleKind::kTimeUniform, 1, 0.002, 80};
  spec.afs = Afs::kAnalytical;
  spec.guidance_type = GuidanceKind::kClassifierFree;
  spec.guidance_rate = 7.5;
  spec.source = "made by a \"test\"";
  auto& parameters = spec.parameters();
  parameters.on_ipndm = true;
  parameters.max_order = 3;
  parameters.scale_time = 0;
  for (std::size_t i = 0; i < spec.num_parameters(); ++i) parameters.raw.push_back(std::sin(i + 1.0) / 3);
  return spec;
}

/// The predictor's text with one piece replaced.
std::string changed(const std::string& from, const std::string& to) {
  std::string text = predictor_text(some_predictor());
  const auto at = text.find(from);
  EXPECT_NE(at, text.npos) << from;
  return text.replace(at, from.size(), to);
}

std::string refusal(const std::string& text) {
  return error_of([&] { parse_predictor(text, "x/predictor.json"); });
}

class PredictorFiles : public testing::Test {
 protected:
  PredictorFiles() {
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  ~PredictorFiles() override { fs::remove_all(folder_); }

  fs::path add(const std::string& name, const std::string& content = "") {
    fs::create_directories((folder_ / name).parent_path());
    std::ofstream(folder_ / name) << (content.empty() ? predictor_text(some_predictor()) : content);
    return folder_ / name;
  }
  std::string find_error(const std::string& name) {
    return error_of([&] { find_predictor(name, {folder_}); });
  }

  fs::path folder_ = fs::path(testing::TempDir()) /
                     (std::string("epd-predictors-") + testing::UnitTest::GetInstance()->current_test_info()->name());
};

TEST(PredictorJson, ReadsBackWhatItWrote) {
  auto spec = some_predictor();
  for (const bool explicit_times : {false, true}) {
    if (explicit_times) spec.t_steps = std::vector<double>{80, 1.0 / 3, 0.00201319158};
    const auto text = predictor_text(spec);
    const auto read = parse_predictor(text, "here");
    EXPECT_EQ(read.parameters().raw, spec.parameters().raw);
    EXPECT_EQ(read.t_steps, spec.t_steps);
    EXPECT_EQ(read.parameters().max_order, spec.parameters().max_order);
    EXPECT_EQ(read.guidance_type, spec.guidance_type);
    EXPECT_EQ(read.guidance_rate, spec.guidance_rate);
    EXPECT_EQ(read.source, spec.source);
    EXPECT_EQ(predictor_text(read), text);  // and with it all the rest
  }
}

/// A learned plan: 2 stages, the second of 2 points.
PredictorSpec some_plan() {
  auto spec = some_predictor();
  spec.afs = Afs::kNo;
  spec.set_plan({80,
                 false,
                 {{{80, 1, {}}}, {{1.0 / 3, 0.1, {0.9}}, {0.7, 0.2, {std::sin(1.0)}}}},
                 {0.002, 1e-5, {-0.25, 1.3, 1e-17}}});
  return spec;
}

std::string changed_plan(const std::string& from, const std::string& to) {
  std::string text = predictor_text(some_plan());
  const auto at = text.find(from);
  EXPECT_NE(at, text.npos) << from;
  return text.replace(at, from.size(), to);
}

TEST(PredictorJson, APlanSurvivesToTheBit) {
  const auto spec = some_plan();
  const auto text = predictor_text(spec);
  const auto read = parse_predictor(text, "here");
  EXPECT_EQ(read.num_steps, 3);
  EXPECT_EQ(read.num_points, 2);
  ASSERT_EQ(read.kind(), StudentKind::kNs);
  EXPECT_EQ(read.plan()->stages[1][1].sigma, 0.7);
  EXPECT_EQ(read.plan()->stages[1][1].weights, spec.plan()->stages[1][1].weights);
  EXPECT_EQ(read.plan()->end.weights, spec.plan()->end.weights);
  EXPECT_EQ(predictor_text(read), text);  // and with it all the rest
  EXPECT_THAT(text, HasSubstr(R"({"stage": 0, "sigma": 80, "start": 1, "weights": []},)"));
}

TEST(PredictorJson, ReadsBackWhatStandsForTheFirstEvaluation) {
  for (const auto& [name, afs] : kAfsNames) {
    auto spec = some_predictor();
    spec.afs = afs;
    EXPECT_EQ(parse_predictor(predictor_text(spec), "here").afs, afs) << name;
  }
  EXPECT_THAT(predictor_text(some_predictor()), HasSubstr("\"afs\": true"));
  EXPECT_THAT(refusal(changed("\"afs\": true", "\"afs\": \"median\"")), HasSubstr("afs: expected False, True or mean"));
  EXPECT_THAT(refusal(changed("\"afs\": true", "\"afs\": 1")), HasSubstr("afs: expected a string, found number"));
  auto plan = some_plan();
  plan.afs = Afs::kMean;
  plan.set_plan({80, true, {{{9, 0.1, {0.9}}}}, {0.002, 1e-5, {-0.25, 1.3}}});
  const auto read = parse_predictor(predictor_text(plan), "here");
  EXPECT_TRUE(read.plan()->mean);
  EXPECT_EQ(read.num_steps, 3);
}

TEST(PredictorJson, RefusesBadPlans) {
  EXPECT_THAT(
      refusal(changed_plan("[0.9]", "[0.9, 1]")),
      HasSubstr("x/predictor.json: plan: stage 1, point 0 has 2 weights, expected one for each of the 1 images"));
  EXPECT_THAT(refusal(changed_plan("[0.9]", "[]")), HasSubstr("stage 1, point 0 has 0 weights"));
  EXPECT_THAT(refusal(changed_plan("[0.9]", "[NaN]")), HasSubstr("not valid JSON"));
  EXPECT_THAT(refusal(changed_plan("\"sigma\": 0.7", "\"sigma\": -0.7")),
              HasSubstr("sigma of stage 1, point 1 is -0.7"));
  EXPECT_THAT(refusal(changed_plan("\"stage\": 0", "\"stage\": 1")),
              HasSubstr("plan: points 0: stage: expected 0 to 0"));
  EXPECT_THAT(refusal(changed_plan("\"stage\": 1", "\"stage\": 2")),
              HasSubstr("plan: points 1: stage: expected 0 to 1"));
  EXPECT_THAT(refusal(changed_plan("\"t_0\": 80", "\"t_0\": 0")), HasSubstr("plan: t_0 is 0"));
  EXPECT_THAT(refusal(changed_plan("\"num_steps\": 3", "\"num_steps\": 4")),
              HasSubstr("num_steps is 4, and the plan has 2"));
  EXPECT_THAT(refusal(changed_plan("\"num_points\": 2", "\"num_points\": 3")), HasSubstr("num_points is 3, and the"));
  EXPECT_THAT(refusal(changed_plan("\"end\"", "\"fcn\": true, \"end\"")), HasSubstr("plan: fcn: unknown field"));
  EXPECT_THAT(refusal(changed_plan("\"source\"", "\"fcn\": true, \"source\"")), HasSubstr("fcn: unknown field"));
  EXPECT_THAT(refusal(changed_plan("\"plan\"", "\"parameters\"")), HasSubstr("plan: missing"));
}

TEST(PredictorJson, WhatIsNotGivenStaysNotGiven) {
  auto spec = some_predictor();
  spec.parameters().max_order.reset();
  spec.guidance_rate.reset();
  spec.guidance_type = GuidanceKind::kNone;
  const auto read = parse_predictor(predictor_text(spec), "here");
  EXPECT_FALSE(read.parameters().max_order || read.guidance_rate || read.t_steps);
  EXPECT_EQ(read.guidance_type, GuidanceKind::kNone);
}

TEST(PredictorJson, ParametersStandByGroupStepAndPoint) {
  const auto spec = some_predictor();
  const auto text = predictor_text(spec);
  const auto w = text.find("\"weight\"");
  EXPECT_LT(text.find("\"r\""), w);
  EXPECT_EQ(spec.index(PredictorSpec::kWeight, 1, 0), 6u);
  const auto read = parse_predictor(text, "here");
  EXPECT_EQ(read.parameters().raw[read.index(PredictorSpec::kScaleTime, 1, 1)], std::sin(16.0) / 3);
}

TEST(PredictorJson, RefusesEveryTruncation) {
  const auto text = predictor_text(some_predictor());
  for (std::size_t size = 0; size + 2 < text.size(); size += 7) {
    EXPECT_THAT(refusal(text.substr(0, size)), AllOf(StartsWith("x/predictor.json: "), HasSubstr("cut short"))) << size;
  }
}

TEST(PredictorJson, RefusesForeignFilesAndVersions) {
  EXPECT_THAT(refusal("{}"), HasSubstr("format: missing"));
  EXPECT_THAT(refusal(changed("epd-predictor", "other")), HasSubstr("format: expected epd-predictor, found 'other'"));
  EXPECT_THAT(refusal(changed("\"version\": 1", "\"version\": 2")), HasSubstr("reads version 1, found 2"));
  EXPECT_THAT(refusal(changed("\"kind\": \"ipndm\"", "\"kind\": \"amed\"")),
              HasSubstr("kind: expected epd, ipndm or ns, got 'amed'"));
  EXPECT_THAT(refusal(changed("time_uniform", "cosine")), HasSubstr("schedule: type: expected polynomial"));
  EXPECT_THAT(refusal(changed("\"cfg\"", "\"dpg\"")),
              HasSubstr("guidance_type: expected none, cg, cfg, uncond or autoguidance"));
}

TEST(PredictorJson, RefusesMissingAndUnknownFields) {
  for (const char* field : {"\"afs\"", "\"max_order\"", "\"guidance_type\"", "\"guidance_rate\"", "\"scale_dir\"",
                            "\"source\"", "\"schedule\"", "\"parameters\"", "\"label_dim\"", "\"rho\"", "\"fcn\""}) {
    const std::string name(field + 1, std::string(field).size() - 2);
    EXPECT_THAT(refusal(changed(field, "\"colour\"")), HasSubstr(name + ": missing")) << field;
  }
  EXPECT_THAT(refusal(changed("\"afs\"", "\"colour\": 1, \"afs\"")), HasSubstr("colour: unknown field"));
  EXPECT_THAT(refusal(changed("\"rho\"", "\"rhoo\": 1, \"rho\"")), HasSubstr("schedule: rhoo: unknown field"));
  EXPECT_THAT(refusal(changed("\"weight\"", "\"w\": [], \"weight\"")), HasSubstr("parameters: w: unknown field"));
}

TEST(PredictorJson, RefusesWrongShapesAndSizes) {
  EXPECT_THAT(refusal(changed("\"num_points\": 2", "\"num_points\": 3")),
              HasSubstr("parameters: r: expected 3 numbers a list, found 2"));
  EXPECT_THAT(refusal(changed("\"num_steps\": 3", "\"num_steps\": 4")),
              HasSubstr("parameters: r: expected 3 lists of 2 numbers, found 2 entries"));
  EXPECT_THAT(refusal(changed("\"num_steps\": 3", "\"num_steps\": 1")), HasSubstr("num_steps: expected 2 to 1000"));
  EXPECT_THAT(refusal(changed("\"num_steps\": 3", "\"num_steps\": 2000000000")), HasSubstr("num_steps: expected 2 to"));
  EXPECT_THAT(refusal(changed("\"num_points\": 2", "\"num_points\": 1e9")),
              HasSubstr("num_points: expected an integer"));
  EXPECT_THAT(refusal(changed("\"num_points\": 2", "\"num_points\": -1")), HasSubstr("num_points: expected 1 to 64"));
  EXPECT_THAT(refusal(changed("\"rho\": 1,", "\"rho\": 1, \"t_steps\": [80, 0.002],")),
              HasSubstr("schedule: t_steps: expected 3 numbers, found 2"));
}

TEST(PredictorJson, RefusesNumbersThatCannotBe) {
  EXPECT_THAT(refusal(changed("\"scale_dir\": 0.05", "\"scale_dir\": NaN")), HasSubstr("not valid JSON"));
  EXPECT_THAT(refusal(changed("\"scale_dir\": 0.05", "\"scale_dir\": 1e400")), HasSubstr("not valid JSON"));
  EXPECT_THAT(refusal(changed("\"scale_dir\": 0.05", "\"scale_dir\": 1.5")), HasSubstr("scale_dir is 1.5"));
  EXPECT_THAT(refusal(changed("\"sigma_min\": 0.002", "\"sigma_min\": 90")), HasSubstr("sigma range"));
  EXPECT_THAT(refusal(changed("\"max_order\": 3", "\"max_order\": 5")), HasSubstr("max_order: expected 1 to 4"));
  EXPECT_THAT(refusal(changed("\"rho\": 1,", "\"rho\": 1, \"t_steps\": [80, 90, 0.002],")), HasSubstr("not below"));
  EXPECT_THAT(refusal(changed("\"rho\": 1,", "\"rho\": 1, \"t_steps\": [80, 1, 0],")),
              HasSubstr("not a positive number"));
}

TEST(PredictorJson, AnInvalidPredictorIsNotWritten) {
  auto spec = some_predictor();
  spec.parameters().raw[3] = std::nan("");
  EXPECT_THROW(predictor_text(spec), Error);
  spec = some_predictor();
  spec.parameters().raw.pop_back();
  EXPECT_THROW(predictor_text(spec), Error);
}

TEST_F(PredictorFiles, AreFoundByFileFolderAndNumber) {
  const auto file = add("00002-demo/predictor.json");
  add("00012-demo/predictor.json");
  add("00002.txt", "no run folder");
  EXPECT_EQ(find_predictor("2", {folder_}), file);
  EXPECT_EQ(find_predictor("00002", {folder_}), file);
  EXPECT_EQ(find_predictor(file.string(), {folder_}), file);
  EXPECT_EQ(find_predictor(file.parent_path().string(), {folder_}), file);
  EXPECT_EQ(read_predictor(file).num_steps, 3);
}

TEST_F(PredictorFiles, OfTheZooAreFoundByNameAndNumber) {
  const auto file = add("zoo/dyweight/cifar10-5.json");
  EXPECT_EQ(find_predictor("dyweight/cifar10-5", {folder_ / "absent", folder_}), file);
  EXPECT_THAT(find_error("dyweight/cifar10-4"), HasSubstr("no predictor dyweight/cifar10-4"));
}

TEST_F(PredictorFiles, ThatAreMissingOrAmbiguousAreSaidSo) {
  add("00003-a/predictor.json");
  add("00003-b/predictor.json");
  add("00004-a/log.txt");
  EXPECT_THAT(find_error("7"), HasSubstr("no experiment 7 in " + folder_.string()));
  EXPECT_THAT(find_error("3"), AllOf(HasSubstr("ambiguous"), HasSubstr("00003-a"), HasSubstr("00003-b")));
  EXPECT_THAT(find_error("4"), HasSubstr("no predictor.json in"));
  EXPECT_THAT(find_error("99999999999999999999"), HasSubstr("at most 9 digits"));
  EXPECT_THAT(find_error(""), HasSubstr("expected a file, a folder or an experiment number"));
  EXPECT_THAT(find_error((folder_ / "none.json").string()), HasSubstr("no such file or folder"));
  EXPECT_THAT(error_of([&] { find_predictor("1", {folder_ / "no-exp"}); }), HasSubstr("no folder"));
}

TEST_F(PredictorFiles, AreLookedUpInTheFirstFolderThatHasTheirNumber) {
  const auto own = folder_ / "own", shipped = folder_ / "shipped", absent = folder_ / "absent";
  const auto file = add("shipped/00002-demo/predictor.json");
  add("own/00003-demo/predictor.json");
  add("own/00004-a/predictor.json");
  // Whatever else the first folder holds hides nothing.
  for (const char* name : {"2/x", "02/x", "00002/x", "2-demo/predictor.json", "000002-demo/predictor.json", "00002-x",
                           "00002_x/predictor.json", "00002-/predictor.json"}) {
    add(std::string("own/") + name, "x");
    EXPECT_EQ(find_predictor("2", {own, shipped}), file) << name;
  }
  EXPECT_EQ(find_predictor("2", {absent, shipped}), file);
  EXPECT_EQ(find_predictor("2", {shipped, absent}), file);
  add("own/00002-demo/log.txt");  // an unfinished run
  EXPECT_THAT(error_of([&] {
                find_predictor("2", {own, shipped});
              }),
              HasSubstr("no predictor.json in " + own.string()));
  EXPECT_EQ(find_predictor("2", {shipped, own}), file);
  EXPECT_THAT(error_of([&] {
                find_predictor("5", {own, shipped});
              }),
              AllOf(HasSubstr("no experiment 5 in "), HasSubstr(own.string()), HasSubstr(shipped.string())));
}

TEST_F(PredictorFiles, ErrorsNameTheFile) {
  const auto path = add("broken.json", "{\"format\": ");
  EXPECT_THAT(error_of([&] { read_predictor(path); }), StartsWith(path.string() + ": "));
  EXPECT_THAT(error_of([&] { read_predictor(folder_ / "absent.json"); }), HasSubstr("absent.json"));
  EXPECT_THAT(error_of([&] { read_predictor(folder_); }), HasSubstr(folder_.string()));
}

TEST_F(PredictorFiles, APickleOfTheOriginalCodeNamesTheCommandThatConvertsIt) {
  const auto path = add("network-snapshot-000010.pkl", "\x80\x04");
  EXPECT_THAT(error_of([&] { read_predictor(path); }), HasSubstr("./launch.sh import " + path.string()));
}

}  // namespace
}  // namespace epd
