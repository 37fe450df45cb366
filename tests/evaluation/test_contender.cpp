#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "epd/evaluation/contender.h"
#include "support/test_files.h"

namespace epd {
namespace {

using ::testing::HasSubstr;

Contender polynomial(const std::string& whole, int nfe) {
  return read_contender(whole, nfe, ScheduleKind::kPolynomial);
}

TEST(Contender, IsASolverItsOrderAndItsSchedule) {
  const auto plain = polynomial("dpmpp", 5);
  EXPECT_EQ(plain.name, "dpmpp(3)");
  EXPECT_EQ(plain.method.schedule_type, ScheduleKind::kPolynomial);
  EXPECT_EQ(plain.method.schedule_rho, 7);
  const auto all = polynomial("dpmpp:2@time_uniform", 5);
  EXPECT_EQ(all.name, "dpmpp(2)");
  EXPECT_EQ(all.method.max_order, 2);
  EXPECT_EQ(all.method.schedule_type, ScheduleKind::kTimeUniform);
  EXPECT_EQ(all.method.schedule_rho, 1);
  EXPECT_EQ(polynomial("euler@logsnr", 5).name, "euler");
  EXPECT_EQ(polynomial("dpmpp:2@time_uniform:0.7", 5).method.schedule_rho, 0.7);
}

TEST(Contender, SpendsTheEvaluationsThatItWasGiven) {
  for (const auto& [solver, kind] : kSolverNames) {
    for (const int nfe : {2, 3, 5, 8}) {
      const auto method = make_method(polynomial(solver, nfe).method, std::nullopt, ModelFacts{});
      EXPECT_EQ(method.nfe(), nfe) << solver;
      const bool two_a_step = info_of(kind).evaluations == 2;
      EXPECT_EQ(polynomial(solver, nfe).method.afs == Afs::kAnalytical, two_a_step && nfe % 2 == 1) << solver;
    }
  }
}

TEST(Contender, MayBeginWithTheMeanOfTheData) {
  for (const char* solver : {"dpmpp:2+mean@logsnr", "ipndm+mean", "heun+mean"}) {
    const auto contender = polynomial(solver, 5);
    EXPECT_TRUE(contender.name.ends_with("+mean")) << contender.name;
    const auto method = make_method(contender.method, std::nullopt, ModelFacts{});
    EXPECT_EQ(method.nfe(), 5) << solver;
    EXPECT_EQ(method.plan.mean, 1) << solver;
  }
  EXPECT_EQ(polynomial("dpmpp:2+mean", 5).name, "dpmpp(2)+mean");
}

TEST(Contender, ThatCannotBeIsRefusedByName) {
  const auto refusal = [](const std::string& whole, int nfe) {
    return test::error_of([&] { polynomial(whole, nfe); });
  };
  EXPECT_THAT(refusal("amed", 5), HasSubstr("amed"));
  EXPECT_THAT(refusal("dpmpp:x", 5), HasSubstr("dpmpp:x"));
  EXPECT_THAT(refusal("dpmpp:2@karras", 5), HasSubstr("karras"));
  EXPECT_THAT(refusal("dpmpp:2@time_uniform:x", 5), HasSubstr("dpmpp:2@time_uniform:x"));
  EXPECT_THAT(refusal("euler", 0), HasSubstr("nfe"));
  EXPECT_THAT(refusal("heun+mean", 4), HasSubstr("an odd number"));
  EXPECT_THAT(refusal("heun", -1), HasSubstr("nfe"));
}

TEST(Contender, APredictorMayHaveAName) {
  EXPECT_EQ(predictor_contender("exp/2=ours").name, "ours");
  EXPECT_EQ(predictor_contender("exp/2=ours").method.predictor_path, "exp/2");
  EXPECT_EQ(predictor_contender("2").name, "");
}

TEST(Contender, APlanFileHasItsNameAndAListItsSolver) {
  EXPECT_EQ(plan_contender("a/b.json").method.plan, "a/b.json");
  EXPECT_EQ(plan_contender("a/b.json").name, "b");
  EXPECT_EQ(plan_contender("a/b.json=c").name, "c");
  const auto listed = listed_contender("dpmpp:2", "lists/ays.txt");
  EXPECT_EQ(listed.name, "dpmpp(2) on ays");
  EXPECT_EQ(listed.method.sigmas, "lists/ays.txt");
  EXPECT_FALSE(listed.method.num_steps || listed.method.schedule_type || listed.method.schedule_rho);
}

TEST(Contender, TheZooIsEveryShippedPredictorOfTheModel) {
  ModelFacts facts;
  facts.dataset_name = "cifar10";
  facts.resolution = 32;
  facts.channels = 3;
  std::set<std::string> names;
  for (const auto& contender : zoo_contenders(facts)) {
    EXPECT_TRUE(names.insert(contender.name).second) << contender.name;
    EXPECT_NO_THROW(make_method(contender.method, find_method_predictor(contender.method), facts)) << contender.name;
  }
  for (const char* name : {"epd 2", "ipndm 20", "dyweight/cifar10-5"}) EXPECT_TRUE(names.contains(name)) << name;
  facts.dataset_name = "mnist";
  EXPECT_THAT(test::error_of([&] { zoo_contenders(facts); }), HasSubstr("mnist"));
}

TEST(Contender, TheReferenceIsNamedAsPapersWriteIt) {
  EXPECT_EQ(reference_name("ipndm(4)", 24), "reference (iPNDM-4, 24 NFE)");
  EXPECT_EQ(reference_name("dpmpp(3)", 40), "reference (DPM-Solver++-3, 40 NFE)");
  EXPECT_EQ(reference_name("dpm", 41), "reference (DPM-Solver-2, 41 NFE)");
  EXPECT_EQ(reference_name("heun", 35), "reference (Heun, 35 NFE)");
  EXPECT_EQ(reference_name("another(2)+mean", 9), "reference (another-2+mean, 9 NFE)");
}

}  // namespace
}  // namespace epd
