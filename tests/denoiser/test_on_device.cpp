#include <ATen/ATen.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <gtest/gtest.h>
#include <torch/csrc/jit/passes/tensorexpr_fuser.h>
#include <torch/csrc/jit/runtime/graph_executor.h>

#include <vector>

#include "epd/denoiser/device.h"
#include "epd/distributed/process_group.h"
#include "epd/metrics/detector.h"
#include "epd/runtime/execute.h"
#include "epd/sampling/method.h"
#include "epd/sampling/sampler.h"
#include "support/mixture_denoiser.h"
#include "support/standin_accelerator.h"
#include "support/test_files.h"
#include "support/tiny_model.h"

// What depends on the device, on the stand-in for a GPU.
namespace epd {
namespace {

const at::Device kDevice(at::kPrivateUse1, 1);

class OnDevice : public ::testing::Test {
 protected:
  OnDevice() { standin::reset_counts(); }
  ~OnDevice() override {
    standin::delay(kDevice.index(), 0);
    set_current({kDevice.type(), 0});
  }

  OpenedModel open(Precision precision, at::Device device = kDevice) {
    const auto path = folder_ / "denoiser.ts";
    testing::make_tiny_model(path, model_);
    return open_model({path, device, precision, {}, {4, 0}});
  }
  Sampler sampler(at::Device device, SamplerOptions options = {}) {
    const auto model = open(Precision::kFloat32, device);
    MethodOptions heun;
    heun.solver = solver_kind("heun");
    heun.num_steps = 3;
    const auto method = make_method(heun, std::nullopt, model.facts());
    std::shared_ptr<const Conditions> conditions = make_conditions(model.model, folder_ / "denoiser.ts", {});
    return {model, conditions, method.plan, method.times[0], options};
  }

  test::TemporaryFolder folder_;
  testing::TinyModelOptions model_;
};

TEST_F(OnDevice, TheCurrentDeviceIsItsOwnAndNoOtherIsTouched) {
  set_current(kDevice);
  EXPECT_EQ(c10::impl::VirtualGuardImpl(kDevice.type()).getDevice(), kDevice);
  at::ones({4}, at::device(at::kPrivateUse1)).add_(1);
  synchronize(kDevice);
  EXPECT_TRUE(standin::stats(1).used);
  EXPECT_FALSE(standin::stats(0).used);
  EXPECT_FALSE(standin::stats(2).used);
}

TEST_F(OnDevice, NamesAndIdentitiesTellCardsApart) {
  EXPECT_EQ(kind_of(kDevice), standin::kName);
  EXPECT_EQ(device_name(kDevice), standin::kName);
  EXPECT_NE(device_identity(kDevice), device_identity({kDevice.type(), 0}));
  set_current(kDevice);
  EXPECT_EQ(device_identity(kDevice), device_identity(kDevice.type()));
}

TEST_F(OnDevice, SynchronizeWaitsForTheDevice) {
  at::ones({4}, at::device(kDevice)).add_(1);
  const auto before = standin::stats(1).waits;
  synchronize(kDevice);
  EXPECT_EQ(standin::stats(1).waits, before + 1);
}

TEST_F(OnDevice, ATensorComesWithoutAWait) {
  const auto numbers = at::arange(12, at::kLong).view({3, 4});
  const auto there = to_device(numbers, kDevice);
  EXPECT_EQ(there.device(), kDevice);
  EXPECT_EQ(standin::stats(1).to_device.count, 1);
  EXPECT_EQ(standin::stats(1).to_device.waiting, 0);
  EXPECT_TRUE(at::equal(there.cpu(), numbers));
  EXPECT_TRUE(to_device(there, kDevice).is_same(there));
  EXPECT_TRUE(to_device(numbers, at::kCPU).is_same(numbers));
}

TEST_F(OnDevice, ANetworkIsNeitherProfiledNorFused) {
  for (const bool detector : {false, true}) {
    torch::jit::getProfilingMode() = true;
    torch::jit::setTensorExprFuserEnabled(true);
    if (detector) {
      testing::make_tiny_detector(folder_ / "features.ts");
      DetectorOptions options;
      options.device = kDevice;
      const Detector opened(folder_ / "features.ts", options);
    } else {
      open(Precision::kFloat32);
    }
    EXPECT_FALSE(torch::jit::getProfilingMode());
    EXPECT_FALSE(torch::jit::tensorExprFuserEnabled());
    EXPECT_TRUE(at::globalContext().deterministicCuDNN());
  }
}

TEST_F(OnDevice, TheFileSaysThePrecisionUnlessTheDeviceIsSlowInIt) {
  for (const auto& [file, resolved] : {std::pair{Precision::kFloat32, Precision::kFloat32},
                                       {Precision::kFloat16, Precision::kFloat16},
                                       {Precision::kBFloat16, Precision::kFloat32}}) {
    model_.facts.precision = file;
    EXPECT_EQ(open(Precision::kAuto).model->precision(), resolved);
    EXPECT_EQ(open(Precision::kAuto, at::kCPU).model->precision(), Precision::kFloat32);
  }
}

TEST_F(OnDevice, WhatSurroundsANetworkIsComputedInTf32WhereTheNetworkIsNoBetter) {
  EXPECT_FALSE(open(Precision::kFloat32).model->allows_tf32());
  for (const auto precision : {Precision::kTf32, Precision::kFloat16, Precision::kBFloat16}) {
    EXPECT_TRUE(open(precision).model->allows_tf32());
  }
}

TEST_F(OnDevice, AClassifiersGradientsAreReproducible) {
  at::globalContext().setDeterministicAlgorithms(false, false);
  open(Precision::kFloat32);
  EXPECT_FALSE(at::globalContext().deterministicAlgorithms());
  model_.facts.condition = ConditionKind::kLabel;
  model_.facts.label_dim = 4;
  model_.facts.classifier = true;
  const auto path = folder_ / "guided.ts";
  testing::make_tiny_model(path, model_);
  open_model({path, kDevice, Precision::kFloat32, {.kind = GuidanceKind::kClassifier}, {4, 0}});
  EXPECT_TRUE(at::globalContext().deterministicAlgorithms());
  at::globalContext().setDeterministicAlgorithms(false, false);
}

/// The noise levels come once, and nobody waits: neither for them nor for an evaluation.
TEST_F(OnDevice, AnExecutionCopiesOnceAndWaitsForNothing) {
  const auto model = open(Precision::kFloat32), on_cpu = open(Precision::kFloat32, at::kCPU);
  for (const auto& [name, kind] : kSolverNames) {
    SolverOptions solver;
    solver.kind = kind;
    const auto plan = make_plan(solver, TimeSteps({80, 7, 1.3, 0.3, 0.01}));
    const auto start = at::randn({5, 3, 8, 8}) * 80;
    const auto there = start.to(kDevice);
    standin::reset_counts();
    const auto end = execute(plan, *model.denoiser, {}, there);
    const auto stats = standin::stats(1);
    EXPECT_EQ(stats.to_device.count, 1) << name;
    EXPECT_EQ(stats.to_device.waiting, 0) << name;
    EXPECT_EQ(stats.to_host.count, 0) << name;
    EXPECT_EQ(stats.waits, 0) << name;
    const auto expected = execute(plan, *on_cpu.denoiser, {}, start);
    EXPECT_TRUE(at::allclose(end.cpu(), expected, 1e-4, 1e-4)) << name;
  }
}

/// Latents and noise levels come to the device, whether all images are finite goes back.
TEST_F(OnDevice, ABatchWaitsOnce) {
  const auto draw = sampler(kDevice);
  draw.draw({1, 2, 3, 4, 5});
  standin::reset_counts();
  draw.draw({6, 7, 8, 9, 10});
  EXPECT_EQ(standin::stats(1).to_device.count, 2);
  EXPECT_EQ(standin::stats(1).to_device.waiting, 0);
  EXPECT_EQ(standin::stats(1).to_host.count, 1);
}

TEST_F(OnDevice, OffloadingHoldsOneNetworkAtATimeAndChangesNoBit) {
  model_.facts.guide = true;
  model_.width = 64;
  const auto path = folder_ / "denoiser.ts";
  testing::make_tiny_model(path, model_);
  const auto x = at::randn({4, 3, 8, 8}), sigma = at::full({4}, 2.0);
  std::vector<at::Tensor> results;
  std::vector<std::int64_t> peaks;
  for (const bool offload : {false, true}) {
    const auto model = open_model({.path = path,
                                   .device = kDevice,
                                   .precision = Precision::kFloat32,
                                   .guidance = {GuidanceKind::kAutoguidance, 2, false},
                                   .chunks = {4, 0},
                                   .offload = offload});
    reset_peak_memory(kDevice);
    for (int step = 0; step < 2; ++step) {
      results.push_back(model.denoiser->forward(x.to(kDevice), sigma.to(kDevice), 1, {}).cpu());
    }
    peaks.push_back(memory_of(kDevice)->peak);
    EXPECT_EQ(model.model->offloaded_bytes() > 0, offload);
  }
  for (const auto& result : results) EXPECT_TRUE(at::equal(result, results[0]));
  EXPECT_LT(peaks[1], peaks[0]);
}

TEST_F(OnDevice, ASeedIsTheSameNoiseAsOnTheCpu) {
  const auto here = sampler(at::kCPU).draw({3, 1, 4}).images, there = sampler(kDevice).draw({3, 1, 4}).images.cpu();
  EXPECT_TRUE(at::allclose(here, there, 1e-4, 1e-4));
}

/// Work that the device has not done when drawing begins is nobody's image.
TEST_F(OnDevice, TheClockOfDrawingDoesNotCountWorkBeforeIt) {
  const auto draw = sampler(kDevice);
  testing::make_tiny_detector(folder_ / "features.ts");
  const auto detector = open_scoring_detector("", (folder_ / "features.ts").string(), kDevice, 0);
  const auto group = ProcessGroup::alone();
  standin::delay(1, 0.02);
  auto x = at::ones({4}, at::device(kDevice));
  for (int i = 0; i < 100; ++i) x.add_(1);  // two seconds
  standin::delay(1, 0);
  const auto drawn = draw_statistics(draw, {1, 2}, 2, detector, *group, "test");
  EXPECT_LT(drawn.seconds, 2);
}

}  // namespace
}  // namespace epd
