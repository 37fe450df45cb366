// How often the host and an accelerator speak to each other: in an evaluation never, in a batch as said here.
#include "accelerator/on_device.h"

namespace epd::test {
namespace {

/// What a run of so many batches of four images and steps of Heun's method does to the device.
class CopiesOfSampling : public OnDevice {
 protected:
  standin::Stats of(int batches, int num_steps) const {
    auto o = family_.sampling();
    o.method.solver = solver_kind("heun");
    o.batch = o.chunk = 4;
    o.seeds = parse_seeds(text("0-", 4 * batches - 1));
    o.method.num_steps = num_steps;
    o.random_device = RandomDevice::kCpu;
    o.format = SampleFormat::kPng;
    o.outdir = folder_ / "samples";
    o.overwrite = true;
    return counted([&] { run_sample(o, *alone_, kStandin); });
  }
  const TinyFamily family_{Family::kOneHot};
};

TEST_F(CopiesOfSampling, AnEvaluationHasNone) {
  const auto three = of(2, 3), six = of(2, 6);
  EXPECT_GT(six.kernels, three.kernels);
  EXPECT_EQ(six.to_device.count, three.to_device.count);  // the noise levels of a plan go up at once
  EXPECT_EQ(six.to_host.count, three.to_host.count);
  EXPECT_EQ(six.waits, three.waits);
}

TEST_F(CopiesOfSampling, ABatchSendsItsNoiseAndReturnsItsImages) {
  const auto one = of(1, 3), four = of(4, 3);
  const auto per_batch = [&](auto number) { return static_cast<double>(number(four) - number(one)) / 3; };
  // Up: latents, labels, noise levels. Down: images and labels while the next batch is computed, and whether all is
  // finite, which is waited for.
  EXPECT_LE(per_batch([](const auto& s) { return s.to_device.count; }), 3);
  EXPECT_EQ(per_batch([](const auto& s) { return s.to_device.waiting; }), 0);
  EXPECT_EQ(per_batch([](const auto& s) { return s.to_host.count; }), 3);
  EXPECT_EQ(per_batch([](const auto& s) { return s.to_host.waiting; }), 1);
  EXPECT_EQ(per_batch([](const auto& s) { return s.waits; }), 2);
}

/// What a run of so many iterations, end to end, by a student of so many steps does to the device.
class CopiesOfTraining : public OnDevice {
 protected:
  standin::Stats of(int iterations, int num_steps) const {
    auto run = family_.training();
    run.options.total_kimg = 0.003 * iterations;
    run.options.num_steps = num_steps;
    run.options.objective = Objective::kEndToEnd;
    run.options.loss_metric = LossMetric::kL2;
    run.detector.clear();
    run.resources.device = kStandin;
    run.outdir = folder_ / "exp";
    return counted([&] { run_train(run, *alone_); });
  }
  /// Of one iteration.
  standin::Stats each(int num_steps) const {
    const auto two = of(2, num_steps), six = of(6, num_steps);
    const auto part = [](const standin::Copies& a, const standin::Copies& b) {
      return standin::Copies{(b.count - a.count) / 4, (b.bytes - a.bytes) / 4, (b.waiting - a.waiting) / 4};
    };
    standin::Stats result;
    result.to_device = part(two.to_device, six.to_device);
    result.to_host = part(two.to_host, six.to_host);
    return result;
  }
  const TinyFamily family_{Family::kOneHot};
};

TEST_F(CopiesOfTraining, AnIterationHasTheSameForAnyNumberOfSteps) {
  const auto three = each(3), five = each(5);
  EXPECT_EQ(five.to_device.count, three.to_device.count);
  EXPECT_EQ(five.to_host.count, three.to_host.count);
  // Up: start states, labels, which trajectories are new, and the noise levels of the teacher's and of the
  // student's plan. Down: the gradients by all numbers, and the losses.
  EXPECT_LE(three.to_device.count, 5);
  EXPECT_EQ(three.to_host.count, 2);
}

}  // namespace
}  // namespace epd::test
