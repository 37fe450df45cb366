#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "epd/documents/plan_json.h"
#include "epd/documents/predictor_json.h"
#include "epd/files/atomic_file.h"
#include "epd/sampling/method.h"
#include "support/test_files.h"
#include "support/tiny_model.h"

namespace epd {
namespace {

using test::error_of;
using ::testing::HasSubstr;

/// A predictor for the tiny model: N = 4, K = 2, AFS.
PredictorSpec tiny_predictor() {
  PredictorSpec spec;
  spec.dataset_name = "tiny";
  spec.resolution = 8;
  spec.channels = 3;
  spec.afs = Afs::kAnalytical;
  spec.parameters().raw.assign(spec.num_parameters(), 0.25);
  return spec;
}

Method method_of(const PredictorSpec& spec, const ModelFacts& facts, MethodOptions options = {}) {
  return make_method(options, NamedPredictor{"predictor.json", "hash", spec}, facts);
}

TEST(Method, CountsEveryEvaluationTwiceUnderClassifierFreeGuidance) {
  auto facts = testing::tiny_facts();
  auto spec = tiny_predictor();
  EXPECT_EQ(method_of(spec, facts).nfe(), 5);
  EXPECT_EQ(method_of(spec, facts).evaluations(), 8);  // (1 + K)(N - 1) - afs
  facts.condition = ConditionKind::kLabel;
  facts.label_dim = spec.label_dim = 4;
  spec.guidance_type = GuidanceKind::kClassifierFree;
  spec.guidance_rate = 7.5;
  const auto guided = method_of(spec, facts);
  EXPECT_EQ(guided.nfe(), 10);
  EXPECT_EQ(guided.evaluations(), 16);
  EXPECT_EQ(guided.guidance.rate, 7.5);
}

TEST(Method, NamesItsFolderAsPublished) {
  EXPECT_EQ(method_of(tiny_predictor(), testing::tiny_facts()).folder_name(), "epd_nfe5_npoints_2");
  MethodOptions options;
  options.solver = solver_kind("heun");
  EXPECT_EQ(make_method(options, std::nullopt, testing::tiny_facts()).folder_name(), "heun_nfe6");
}

TEST(Method, TakesWhatThePredictorSaysAndRefusesTheContrary) {
  const auto facts = testing::tiny_facts();
  MethodOptions options;
  options.num_steps = 4;
  options.afs = Afs::kAnalytical;
  EXPECT_NO_THROW(method_of(tiny_predictor(), facts, options));
  options.num_steps = 5;
  EXPECT_THAT(error_of([&] { method_of(tiny_predictor(), facts, options); }), HasSubstr("num_steps"));
  options.num_steps.reset();
  options.afs = Afs::kNo;
  EXPECT_THROW(method_of(tiny_predictor(), facts, options), UsageError);
  options.afs.reset();
  options.schedule_type = ScheduleKind::kLogSnr;
  EXPECT_THAT(error_of([&] { method_of(tiny_predictor(), facts, options); }), HasSubstr("polynomial"));
}

TEST(Method, OfAPlanFileTakesNothingThatThePlanSettles) {
  const test::TemporaryFolder folder;
  const auto path = folder / "plan.json";
  const auto facts = testing::tiny_facts();
  const auto made = method_of(tiny_predictor(), facts);
  write_file(path, plan_json(made.plan, "epd"));
  MethodOptions options;
  options.plan = path.string();
  EXPECT_FALSE(find_method_predictor(options));
  const auto method = make_method(options, std::nullopt, facts);
  EXPECT_EQ(method.times.values(), made.times.values());
  EXPECT_EQ(plan_json(method.plan, "epd"), plan_json(made.plan, "epd"));
  EXPECT_EQ(method.nfe(), 5);
  EXPECT_EQ(method.folder_name(), "plan-" + method.plan_sha256.substr(0, 8) + "_nfe5");
  auto flow = facts;
  flow.noise = FlowNoise{};
  flow.sigma_max = 1;
  EXPECT_THAT(error_of([&] { make_method(options, std::nullopt, flow); }), HasSubstr("plan.json: clock is edm"));
  options.num_steps = 4;
  EXPECT_THAT(error_of([&] { make_method(options, std::nullopt, facts); }, 2), HasSubstr("num_steps"));
  options.num_steps.reset();
  options.sigmas = "3,2";
  EXPECT_THAT(error_of([&] { make_method(options, std::nullopt, facts); }, 2), HasSubstr("sigmas"));
  options.solver = solver_kind("euler");
  EXPECT_THAT(error_of([&] { find_method_predictor(options); }, 2), HasSubstr("--plan or --solver"));
  options.solver.reset();
  options.predictor_path = "2";
  EXPECT_THAT(error_of([&] { find_method_predictor(options); }, 2), HasSubstr("--plan or --predictor_path"));
}

TEST(Method, ReadsListsOfNoiseLevels) {
  EXPECT_EQ(read_sigmas("80, 2.5 1e-1,0.002").values(), (std::vector<double>{80, 2.5, 0.1, 0.002}));
  EXPECT_EQ(read_sigmas("1,0").values(), (std::vector<double>{1, 0}));
  for (const char* bad :
       {"", "1", "1,x", "1,2", "1,1", "1,0,0", "1,-1", "1,nan", "1..2,0", "no/such", "1e999,1", "-"}) {
    EXPECT_NE(error_of([&] { read_sigmas(bad); }), "") << bad;
  }
  const test::TemporaryFolder folder;
  write_file(folder / "levels", "#80\n\t3,\n2 # 1\n.5");
  EXPECT_EQ(read_sigmas((folder / "levels").string()).values(), (std::vector<double>{3, 2, 0.5}));
  EXPECT_THAT(error_of([&] { read_sigmas(folder.path().string()); }), HasSubstr(folder.path().string()));
  MethodOptions options;
  options.sigmas = "3,2";
  EXPECT_THAT(error_of([&] { method_of(tiny_predictor(), testing::tiny_facts(), options); }, 2), HasSubstr("sigmas"));
}

TEST(Method, FindsPublishedListsByName) {
  EXPECT_EQ(read_sigmas("gits-cifar10-6").values(),
            (std::vector<double>{80, 10.9836, 3.8811, 1.584, 0.5666, 0.1698, 0.002}));
  int count = 0;
  for (const auto& file : std::filesystem::directory_iterator(EPD_SOURCE_DIR "/exp/zoo/sigmas")) {
    EXPECT_GE(read_sigmas(file.path().stem().string()).size(), 6u) << file.path();
    ++count;
  }
  EXPECT_EQ(count, 12);
}

TEST(Method, OfAFlowModelBeginsAtOne) {
  auto facts = testing::tiny_facts();
  facts.noise = FlowNoise{3};
  facts.sigma_min = 0.001;
  facts.sigma_max = 1;
  MethodOptions options;
  options.solver = solver_kind("heun");
  const auto method = make_method(options, std::nullopt, facts);
  EXPECT_EQ(method.clock, Clock::kFlow);
  EXPECT_EQ(method.schedule.kind, ScheduleKind::kFlowMatch);
  EXPECT_EQ(method.times[0], 1);
  EXPECT_DOUBLE_EQ(method.times[1], 3 * 0.5005 / (1 + 2 * 0.5005));
  EXPECT_EQ(method.times[3], 0);
  EXPECT_EQ(method.nfe(), 5);
  options.schedule_rho = 1;
  EXPECT_DOUBLE_EQ(make_method(options, std::nullopt, facts).times[1], 0.5005);
  options.afs = Afs::kAnalytical;
  EXPECT_THAT(error_of([&] { make_method(options, std::nullopt, facts); }, 2), HasSubstr("afs"));
  options.afs = Afs::kMean;
  EXPECT_EQ(make_method(options, std::nullopt, facts).nfe(), 4);
  options.schedule_type = ScheduleKind::kPolynomial;
  EXPECT_EQ(make_method(options, std::nullopt, facts).times[3], 0.001);
  MethodOptions listed;
  listed.solver = solver_kind("euler");
  listed.sigmas = "14.6,1,0";
  EXPECT_THAT(error_of([&] { make_method(listed, std::nullopt, facts); }, 2), HasSubstr("at most 1"));
}

TEST(Method, RefusesAPredictorOfAnotherShapeInOneLineThatNamesBoth) {
  auto facts = testing::tiny_facts();
  facts.resolution = 16;
  const auto error = error_of([&] { method_of(tiny_predictor(), facts); });
  EXPECT_THAT(error, HasSubstr("predictor.json"));
  EXPECT_THAT(error, HasSubstr("resolution 8"));
  EXPECT_THAT(error, HasSubstr("16"));
  facts = testing::tiny_facts();
  facts.label_dim = 3;
  const auto other_labels = error_of([&] { method_of(tiny_predictor(), facts); });
  EXPECT_THAT(other_labels, HasSubstr("label_dim"));
  EXPECT_THAT(other_labels, HasSubstr("--force_predictor"));
  MethodOptions force;
  force.force_predictor = true;
  EXPECT_EQ(method_of(tiny_predictor(), facts, force).nfe(), 5);
  facts.channels = 4;
  EXPECT_THAT(error_of([&] { method_of(tiny_predictor(), facts, force); }), HasSubstr("channels"));
}

TEST(Method, TakesAnotherRangeWithinTheModels) {
  const auto facts = testing::tiny_facts();
  MethodOptions options;
  options.solver = solver_kind("heun");
  options.range = {0.5, 20};
  const auto method = make_method(options, std::nullopt, facts);
  EXPECT_EQ(method.times[0], 20);
  EXPECT_EQ(method.times.values().back(), 0.5);
  const auto refusal = [&](SigmaRange range) {
    options.range = range;
    return error_of([&] { make_method(options, std::nullopt, facts); }, 2);
  };
  EXPECT_THAT(refusal({{}, 2 * facts.sigma_max}), HasSubstr("sigma_max: expected at most"));
  EXPECT_THAT(refusal({facts.sigma_min / 2, {}}), HasSubstr("sigma_min: expected at least"));
  EXPECT_THAT(refusal({20, 0.5}), HasSubstr("sigma range"));
  options.sigmas = "3,2";
  EXPECT_THAT(refusal({0.5, {}}), HasSubstr("--sigmas"));
  MethodOptions beside;
  beside.range.max = 20;
  EXPECT_THAT(error_of([&] { method_of(tiny_predictor(), facts, beside); }, 2), HasSubstr("sigma_max"));
}

TEST(Method, PrefersExplicitTimesToTheSchedule) {
  auto spec = tiny_predictor();
  spec.t_steps = {{80, 10, 1, 0.002}};
  EXPECT_EQ(method_of(spec, testing::tiny_facts()).times.values(), *spec.t_steps);
}

TEST(Method, NeedsEitherAPredictorOrASolver) {
  EXPECT_THROW(find_method_predictor({}), UsageError);
  MethodOptions both;
  both.solver = solver_kind("euler");
  both.predictor_path = "2";
  EXPECT_THROW(find_method_predictor(both), UsageError);
}

TEST(Method, FindsPublishedPredictorsByNumberWithAndWithoutZeros) {
  MethodOptions options;
  options.predictor_path = "2";
  const auto two = find_method_predictor(options);
  options.predictor_path = "00002";
  EXPECT_EQ(two->path, find_method_predictor(options)->path);
  EXPECT_EQ(two->spec.num_steps, 4);
  EXPECT_EQ(two->sha256.size(), 64U);
}

TEST(Method, RefusesOptionsThatTheSolverDoesNotKnow) {
  MethodOptions options;
  options.solver = solver_kind("heun");
  options.predict_x0 = false;
  EXPECT_THAT(error_of([&] { make_method(options, std::nullopt, testing::tiny_facts()); }), HasSubstr("predict_x0"));
  options.predict_x0.reset();
  options.max_order = 2;
  EXPECT_THROW(make_method(options, std::nullopt, testing::tiny_facts()), UsageError);
}

TEST(Method, NeedsTheModelsNoiseTableForTheDiscreteSchedule) {
  MethodOptions options;
  options.solver = solver_kind("euler");
  options.schedule_type = ScheduleKind::kDiscrete;
  auto facts = testing::tiny_facts();
  EXPECT_THROW(make_method(options, std::nullopt, facts), UsageError);
  facts.noise = VpNoise{};
  EXPECT_NO_THROW(make_method(options, std::nullopt, facts));
}

TEST(Method, RefusesGuidanceThatTheModelCannotGive) {
  MethodOptions options;
  options.solver = solver_kind("euler");
  options.guidance_type = GuidanceKind::kClassifierFree;
  EXPECT_THROW(make_method(options, std::nullopt, testing::tiny_facts()), UsageError);
  options.guidance_type = GuidanceKind::kClassifier;
  EXPECT_THROW(make_method(options, std::nullopt, testing::tiny_facts()), UsageError);
  options.guidance_type.reset();
  options.guidance_rate = 2;
  EXPECT_THAT(error_of([&] { make_method(options, std::nullopt, testing::tiny_facts()); }), HasSubstr("guidance_rate"));
}

TEST(Method, AFolderOfTheSameDigitsHidesNoShippedPredictor) {
  const test::TemporaryFolder folder;
  const auto before = std::filesystem::current_path();
  std::filesystem::current_path(folder.path());
  for (const char* name : {"exp", "exp/2", "exp/00002"}) {
    std::filesystem::create_directory(name);
    MethodOptions options;
    options.predictor_path = "2";
    EXPECT_THAT(find_method_predictor(options)->path.string(), HasSubstr("/exp/00002-cifar10")) << name;
  }
  std::filesystem::current_path(before);
}

}  // namespace
}  // namespace epd
