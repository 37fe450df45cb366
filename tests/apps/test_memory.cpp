// What a run will need of a device's memory, said before it, against what it then takes.
#include <gmock/gmock.h>

#include <functional>
#include <string>
#include <utility>

#include "apps/families.h"
#include "epd/core/out_of_memory.h"
#include "support/standin_accelerator.h"

namespace epd::test {
namespace {

const at::Device kStandin(at::kPrivateUse1, 0);

std::int64_t peak_of(const std::function<void()>& work) {
  standin::reset_peak(0);
  const auto before = standin::bytes(0);
  work();
  return standin::peak_bytes(0) - before;
}

void expect_foretold(const MemoryNeed& need, std::int64_t found) {
  EXPECT_NEAR(static_cast<double>(need.total) / static_cast<double>(found), 1, 0.2) << need.total << " for " << found;
  std::cout << "estimate " << need.total << ", found " << found << "\n";
}

/// A caption for each image: one prompt for all is a state for all, which takes no memory to speak of.
std::string captions(const TinyFamily& family) {
  std::string lines;
  for (int i = 0; i < 48; ++i) lines += text(std::string(1 + i % 5, 'a'), "\n");
  write_file(family / "captions.txt", lines);
  return (family / "captions.txt").string();
}

template <class Run>
struct Case {
  std::string name;
  Family family;
  std::function<void(Run&)> change = [](Run&) {};

  friend void PrintTo(const Case& tested, std::ostream* out) { *out << tested.name; }
};

std::string name_of_case(const auto& tested) { return tested.param.name; }

class OfTraining : public ::testing::TestWithParam<Case<TrainRun>> {};

TEST_P(OfTraining, IsForetold) {
  const TinyFamily family(GetParam().family);
  auto run = family.training();
  run.options.batch = 24;  // six chunks
  run.options.total_kimg = 0.048;
  if (GetParam().family == Family::kText) run.prompt_path = captions(family);
  GetParam().change(run);
  run.resources.device = kStandin;
  const auto need = train_memory(run, kStandin, 1);
  expect_foretold(need, peak_of([&] { family.train(run); }));
}

void end_to_end(TrainRun& run) { run.options.objective = Objective::kEndToEnd; }
void guided(TrainRun& run, GuidanceKind kind) {
  run.options.guidance_type = kind;
  run.options.guidance_rate = 2;
}

INSTANTIATE_TEST_SUITE_P(
    Memory, OfTraining,
    ::testing::Values(
        Case<TrainRun>{"PerStep", Family::kPixels, [](TrainRun& run) { run.options.objective = Objective::kPerStep; }},
        Case<TrainRun>{"EndToEnd", Family::kPixels, end_to_end},
        Case<TrainRun>{"KeptActivations", Family::kPixels,
                       [](TrainRun& run) {
                         end_to_end(run);
                         run.resources.adjoint = AdjointMemory::kKeep;
                       }},
        Case<TrainRun>{"KeptActivationsPerStep", Family::kOneHot,
                       [](TrainRun& run) {
                         run.options.objective = Objective::kPerStep;
                         run.resources.adjoint = AdjointMemory::kKeep;
                       }},
        Case<TrainRun>{"OnePass", Family::kPixels,
                       [](TrainRun& run) {
                         end_to_end(run);
                         run.resources.batch_gpu = 24;
                       }},
        Case<TrainRun>{"OnePoint", Family::kPixels, [](TrainRun& run) { run.options.num_points = 1; }},
        Case<TrainRun>{"FivePoints", Family::kPixels, [](TrainRun& run) { run.options.num_points = 5; }},
        Case<TrainRun>{"FivePointsOneAtATime", Family::kPixels,
                       [](TrainRun& run) {
                         run.options.num_points = 5;
                         run.points_at_once = 1;
                       }},
        Case<TrainRun>{"LossOfStates", Family::kPixels,
                       [](TrainRun& run) {
                         run.options.loss_metric = LossMetric::kL2;
                         run.detector.clear();
                       }},
        Case<TrainRun>{"Plan", Family::kOneHot,
                       [](TrainRun& run) {
                         run.options.student = StudentKind::kNs;
                         run.options.lr.reset();
                         run.options.teacher = solver_kind("ipndm");
                       }},
        Case<TrainRun>{"Trajectories", Family::kOneHot, [](TrainRun& run) { run.options.teacher_cache = 48; }},
        Case<TrainRun>{"ClassifierFree", Family::kOneHot,
                       [](TrainRun& run) { guided(run, GuidanceKind::kClassifierFree); }},
        Case<TrainRun>{"Classifier", Family::kClassifier,
                       [](TrainRun& run) { guided(run, GuidanceKind::kClassifier); }},
        // As many at a time as make the loss take more than the look at a new detector, which is not foretold.
        Case<TrainRun>{"Latents", Family::kLatent, [](TrainRun& run) { run.decode_batch = 24; }},
        Case<TrainRun>{"LossOfLatents", Family::kLatent,
                       [](TrainRun& run) {
                         run.decode_batch = 2;
                         run.options.loss_metric = LossMetric::kL2;
                         run.detector.clear();
                       }},
        Case<TrainRun>{"Text", Family::kText, [](TrainRun& run) { guided(run, GuidanceKind::kClassifierFree); }}),
    name_of_case<::testing::TestParamInfo<Case<TrainRun>>>);

class OfSampling : public ::testing::TestWithParam<Case<SampleOptions>> {};

TEST_P(OfSampling, IsForetold) {
  const TinyFamily family(GetParam().family);
  auto options = family.sampling();
  options.seeds = parse_seeds("0-47");
  options.batch = 24;
  options.method.num_steps = 6;
  options.random_device = RandomDevice::kCpu;
  if (GetParam().family == Family::kText) options.condition.prompt_file = captions(family);
  GetParam().change(options);
  const auto need = sample_memory(options, resolve(options), kStandin, 1);
  expect_foretold(need, peak_of([&] { run_sample(options, *ProcessGroup::alone(), kStandin); }));
}

INSTANTIATE_TEST_SUITE_P(
    Memory, OfSampling,
    ::testing::Values(Case<SampleOptions>{"Euler", Family::kPixels},
                      Case<SampleOptions>{"History", Family::kPixels,
                                          [](SampleOptions& o) { o.method.solver = solver_kind("unipc"); }},
                      Case<SampleOptions>{"OneChunk", Family::kPixels, [](SampleOptions& o) { o.chunk = 24; }},
                      Case<SampleOptions>{"States", Family::kPixels, [](SampleOptions& o) { o.save_inters = true; }},
                      Case<SampleOptions>{"Mean", Family::kOneHot, [](SampleOptions& o) { o.method.afs = Afs::kMean; }},
                      Case<SampleOptions>{
                          "ClassifierFree", Family::kOneHot,
                          [](SampleOptions& o) { o.method.guidance_type = GuidanceKind::kClassifierFree; }},
                      Case<SampleOptions>{"Classifier", Family::kClassifier,
                                          [](SampleOptions& o) { o.method.guidance_type = GuidanceKind::kClassifier; }},
                      Case<SampleOptions>{"Latents", Family::kLatent, [](SampleOptions& o) { o.decode_batch = 4; }},
                      Case<SampleOptions>{"Text", Family::kText}),
    name_of_case<::testing::TestParamInfo<Case<SampleOptions>>>);

TEST(Memory, ThatRunsOutIsOneLineWithTheOptionThatHelps) {
  const TinyFamily family(Family::kPixels);
  const auto message = [&](std::int64_t chunk, double share, auto work) -> std::string {
    auto options = family.sampling();
    options.seeds = parse_seeds("0-47");
    options.batch = options.chunk = chunk;
    const auto need = sample_memory(options, resolve(options), kStandin, 1);
    standin::limit(0, static_cast<std::int64_t>(share * static_cast<double>(need.total)));
    std::string result;
    try {
      work(options);
    } catch (const OutOfMemory& e) {
      result = e.what();
    }
    standin::limit(0, 0);
    return result;
  };
  const auto sample = [](const SampleOptions& o) { run_sample(o, *ProcessGroup::alone(), kStandin); };
  EXPECT_THAT(message(48, 0.7, sample),
              ::testing::StartsWith("out of memory: try smaller --chunk or --points_at_once ("));
  EXPECT_EQ(message(48, 1.2, sample), "");
}

}  // namespace
}  // namespace epd::test
