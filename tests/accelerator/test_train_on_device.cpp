// Training on an accelerator: what the CPU learns, and the same bits by every way through it.
#include <gmock/gmock.h>

#include "accelerator/on_device.h"
#include "epd/documents/predictor_json.h"

namespace epd::test {
namespace {

using ::testing::DoubleNear;
using ::testing::Pointwise;

struct Case {
  const char* name;
  Family family;
  std::function<void(TrainRun&)> change;

  friend void PrintTo(const Case& tested, std::ostream* out) { *out << tested.name; }
};

std::function<void(TrainRun&)> guided(GuidanceKind kind) {
  return [kind](TrainRun& run) {
    run.options.guidance_type = kind;
    run.options.guidance_rate = 2.5;
  };
}

void with_l2_alone(TrainRun& run) {
  run.options.loss_metric = LossMetric::kL2;
  run.detector.clear();
}

const Case kCases[] = {
    {"EndToEnd", Family::kPixels, [](TrainRun& run) { run.options.objective = Objective::kEndToEnd; }},
    {"PerStep", Family::kPixels, [](TrainRun& run) { run.options.objective = Objective::kPerStep; }},
    {"L2", Family::kOneHot, with_l2_alone},
    {"Both", Family::kOneHot, [](TrainRun& run) { run.options.loss_metric = LossMetric::kL2AndFeatures; }},
    {"Plugin", Family::kPixels, [](TrainRun& run) { run.options.student = StudentKind::kIpndm; }},
    {"Plan", Family::kOneHot,
     [](TrainRun& run) {
       run.options.student = StudentKind::kNs;
       run.options.lr.reset();
       run.options.teacher = solver_kind("ipndm");
       run.options.val_images = 3;
       run.options.val_every = 1;
     }},
    {"MeanStart", Family::kOneHot, [](TrainRun& run) { run.options.afs = Afs::kMean; }},
    {"KnownTrajectories", Family::kOneHot, [](TrainRun& run) { run.options.teacher_cache = 4; }},
    {"Validation", Family::kOneHot,
     [](TrainRun& run) {
       run.options.val_images = 3;
       run.options.val_every = 1;
     }},
    {"LabelsFreely", Family::kOneHot, guided(GuidanceKind::kClassifierFree)},
    {"Classifier", Family::kClassifier, guided(GuidanceKind::kClassifier)},
    {"Latents", Family::kLatent, {}},
    {"Text", Family::kText,
     [](TrainRun& run) {
       guided(GuidanceKind::kClassifierFree)(run);
       run.prompt = "a cat";
     }},
};

class TrainOnDevice : public OnDevice {
 protected:
  static std::vector<double> numbers(const PredictorSpec& spec) {
    if (spec.kind() != StudentKind::kNs) return spec.parameters().raw;
    std::vector<double> result = spec.plan()->end.weights;
    for (const auto& stage : spec.plan()->stages) {
      for (const auto& point : stage) {
        result.push_back(point.sigma);
        result.insert(result.end(), point.weights.begin(), point.weights.end());
      }
    }
    return result;
  }
  /// What the run learns on the device.
  std::vector<double> learned(TrainRun run, at::Device device) const {
    run.resources.device = device;
    run.outdir = folder_ / "exp";
    return numbers(read_predictor(run_train(run, *alone_) / "predictor.json"));
  }
};

class EveryWayToTrain : public TrainOnDevice, public ::testing::WithParamInterface<Case> {};

TEST_P(EveryWayToTrain, LearnsWhatTheCpuLearns) {
  const TinyFamily family(GetParam().family);
  auto run = family.training();
  if (GetParam().change) GetParam().change(run);
  const auto expected = learned(run, at::kCPU), found = learned(run, kStandin);
  EXPECT_THAT(found, Pointwise(DoubleNear(1e-3), expected));
}

INSTANTIATE_TEST_SUITE_P(OnDevice, EveryWayToTrain, ::testing::ValuesIn(kCases),
                         [](const auto& tested) { return std::string(tested.param.name); });

TEST_F(TrainOnDevice, PassesMemoryAndInterruptionsChangeNoBit) {
  const TinyFamily family(Family::kOneHot);
  auto run = family.training();
  const auto expected = learned(run, kStandin);
  run.resources.batch_gpu = 2;
  EXPECT_EQ(learned(run, kStandin), expected);
  run.resources.adjoint = AdjointMemory::kKeep;
  EXPECT_EQ(learned(run, kStandin), expected);
  // Stopped after the first of two iterations, and resumed.
  run.options.total_kimg = 0.003;
  run.resources.device = kStandin;
  run.outdir = folder_ / "exp";
  run.resume = run_train(run, *alone_).string();
  run.options.total_kimg = 0.006;
  EXPECT_EQ(numbers(read_predictor(run_train(run, *alone_) / "predictor.json")), expected);
}

TEST_F(TrainOnDevice, NoIterationLeavesMemoryBehind) {
  const TinyFamily family(Family::kOneHot);
  const auto peak = [&](int iterations) {
    auto run = family.training();
    run.options.total_kimg = 0.003 * iterations;
    run.options.objective = Objective::kPerStep;
    return counted([&] { learned(run, kStandin); }).peak_bytes;
  };
  peak(1);
  EXPECT_EQ(peak(6), peak(2));
}

TEST_F(TrainOnDevice, RecomputingHoldsTheGraphOfOneEvaluation) {
  const TinyFamily family(Family::kPixels);
  const auto peak = [&](AdjointMemory adjoint, int num_steps) {
    auto run = family.training();
    run.options.num_steps = num_steps;
    run.options.objective = Objective::kEndToEnd;
    with_l2_alone(run);
    run.resources.adjoint = adjoint;
    return counted([&] { learned(run, kStandin); }).peak_bytes;
  };
  const auto growth = [&](AdjointMemory adjoint) { return peak(adjoint, 7) - peak(adjoint, 3); };
  EXPECT_LT(4 * growth(AdjointMemory::kRecompute), growth(AdjointMemory::kKeep));
}

}  // namespace
}  // namespace epd::test
