#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "distributed/job.h"
#include "epd/documents/plan_json.h"
#include "epd/documents/predictor_json.h"
#include "epd/files/atomic_file.h"
#include "epd/sampling/run_sample.h"
#include "support/mixture_model.h"
#include "support/test_files.h"

// `sample --explain --json` of every solver, run by a few lines of NumPy, gives the images that `sample` draws.
namespace epd {
namespace {

constexpr std::chrono::seconds kPatience{300};  // only a hang lasts longer, however busy the machine

class PlansInNumpy : public ::testing::Test {
 protected:
  PlansInNumpy() { testing::make_mixture_model(inputs_ / "denoiser.ts"); }

  /// One case: the plan, and what `sample` draws with it.
  void add(const MethodOptions& method) {
    SampleOptions options;
    options.method = method;
    options.model_path = (inputs_ / "denoiser.ts").string();
    options.seeds = {0, 7};
    options.condition.label = count_ % 3;
    options.format = SampleFormat::kRaw;
    options.save_inters = true;
    const auto folder = cases_ / text(count_++);
    options.outdir = folder / "images";
    std::filesystem::create_directories(folder);
    const auto explained = method_without_model(options);
    write_file(folder / "plan.json", plan_json(explained.plan, explained.description()));
    const auto group = ProcessGroup::alone();
    run_sample(options, *group, at::kCPU);
  }

  /// A classical solver with and without AFS, on the next schedule and grid.
  void add_solver(MethodOptions method) {
    constexpr std::array kKinds{ScheduleKind::kPolynomial, ScheduleKind::kTimeUniform, ScheduleKind::kLogSnr,
                                ScheduleKind::kDiscrete};
    for (const bool afs : {false, true}) {
      method.afs = afs ? Afs::kAnalytical : Afs::kNo;
      method.schedule_type = kKinds[count_ / 2 % kKinds.size()];
      method.num_steps = 6 + static_cast<int>(count_ / 8 % 3);
      add(method);
    }
  }

  void add_student(StudentKind kind, int num_points, std::optional<int> max_order) {
    for (const bool afs : {false, true}) {
      const auto facts = testing::mixture_facts();
      PredictorSpec spec;
      spec.parameters().on_ipndm = kind == StudentKind::kIpndm;
      spec.dataset_name = facts.dataset_name;
      spec.resolution = facts.resolution;
      spec.channels = facts.channels;
      spec.label_dim = facts.label_dim;
      spec.num_steps = 6;
      spec.num_points = num_points;
      spec.afs = afs ? Afs::kAnalytical : Afs::kNo;
      spec.parameters().fcn = num_points == 3;
      spec.parameters().max_order = max_order;
      for (std::size_t i = 0; i < spec.num_parameters(); ++i) spec.parameters().raw.push_back(std::sin(3.0 * (i + 1)));
      const auto path = inputs_ / "predictor.json";
      write_file(path, predictor_text(spec));
      MethodOptions method;
      method.predictor_path = path.string();
      add(method);
    }
  }

  /// The checks of check_plans.py, on all cases.
  test::Ended check() const {
    return test::Child({EPD_PYTHON, EPD_SOURCE_DIR "/tests/sampling/check_plans.py", cases_.path().string()},
                       {{"PYTHONDONTWRITEBYTECODE", "1"}}, inputs_.path().string())
        .wait(kPatience);
  }
  bool has_numpy() const {
    return test::Child({EPD_PYTHON, "-c", "import numpy"}, {}, inputs_.path().string()).wait(kPatience).exit_code == 0;
  }
  void expect_agreement() const {
    const auto checked = check();
    EXPECT_EQ(checked.exit_code, 0) << checked.output << checked.errors;
    EXPECT_THAT(checked.output, ::testing::HasSubstr(text(count_, " plans"))) << checked.errors;
  }

  test::TemporaryFolder inputs_, cases_;
  std::int64_t count_ = 0;
};

TEST_F(PlansInNumpy, OfClassicalSolversGiveWhatIsDrawn) {
  if (!has_numpy()) GTEST_SKIP() << "this LibTorch came without NumPy";
  for (const auto& [name, kind] : kSolverNames) {
    for (int order = highest_order(kind) > 0 ? 1 : 0; order <= highest_order(kind); ++order) {
      MethodOptions method;
      method.solver = kind;
      if (order > 0) method.max_order = order;
      if (knows(kind, "deis_mode")) {
        for (const auto& [mode_name, mode] : kDeisModeNames) {
          method.deis_mode = mode;
          add_solver(method);
        }
      } else if (knows(kind, "predict_x0")) {
        for (const bool data : {true, false}) {
          for (const bool lower : {true, false}) {
            method.predict_x0 = data;
            method.lower_order_final = lower;
            if (knows(kind, "unipc_variant")) method.unipc_variant = lower ? UnipcVariant::kBh2 : UnipcVariant::kBh1;
            add_solver(method);
          }
        }
      } else {
        add_solver(method);
        if (!knows(kind, "inner_steps")) continue;
        method.inner_steps = 3;
        add_solver(method);
      }
    }
  }
  expect_agreement();
}

TEST_F(PlansInNumpy, OfStudentsGiveWhatIsDrawn) {
  if (!has_numpy()) GTEST_SKIP() << "this LibTorch came without NumPy";
  for (int num_points = 1; num_points <= 4; ++num_points) {
    add_student(StudentKind::kEpd, num_points, std::nullopt);
    for (int order = 1; order <= 4; ++order) add_student(StudentKind::kIpndm, num_points, order);
  }
  expect_agreement();
}

TEST_F(PlansInNumpy, ThatAreOfAnotherSolverAreSeen) {
  if (!has_numpy()) GTEST_SKIP() << "this LibTorch came without NumPy";
  MethodOptions method;
  method.solver = solver_kind("ipndm");
  method.max_order = 2;
  add(method);
  const auto plan = cases_ / "0/plan.json";
  method.max_order = 3;
  add(method);
  write_file(plan, read_file(cases_ / "1/plan.json"));
  EXPECT_EQ(check().exit_code, 1);
}

}  // namespace
}  // namespace epd
