// The stand-in itself: what it must notice, it notices.
#include <ATen/ATen.h>
#include <c10/core/Event.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/grad_mode.h>
#include <torch/csrc/autograd/variable.h>

#include <chrono>
#include <cmath>
#include <string>

#include "support/standin_accelerator.h"

namespace standin {
namespace {

using ::testing::HasSubstr;

class Standin : public ::testing::Test {
 protected:
  Standin() { reset_counts(); }
  ~Standin() override {
    reset_counts();
    for (int device = 0; device < num_devices(); ++device) EXPECT_EQ(settled_bytes(device), 0) << "device " << device;
  }

  static at::Device device(int index) { return at::Device(at::kPrivateUse1, static_cast<at::DeviceIndex>(index)); }
  static at::Tensor ramp() { return at::arange(12, at::kFloat).reshape({3, 4}); }

  /// The message of the error.
  template <class Call>
  static std::string error_of(Call&& call) {
    try {
      call();
    } catch (const c10::Error& e) {
      return e.what_without_backtrace();
    }
    ADD_FAILURE() << "nothing was thrown";
    return "";
  }

  const at::Device here_ = device(0), there_ = device(1);
  const c10::impl::VirtualGuardImpl impl_{at::kPrivateUse1};
};

TEST_F(Standin, ComputesWhatTheCpuDoes) {
  const auto x = ramp(), weight = at::ones({4, 4}) * 0.25;
  const auto on_device = x.to(here_);
  EXPECT_TRUE(at::equal(on_device.mm(weight.to(here_)).cpu(), x.mm(weight)));
  EXPECT_TRUE(at::equal(on_device.t().contiguous().cpu(), x.t()));
  EXPECT_TRUE(at::equal(at::cat({on_device, on_device}).cpu(), at::cat({x, x})));
  EXPECT_TRUE(at::equal(on_device.sum(1).cpu(), x.sum(1)));
  EXPECT_TRUE(at::equal(on_device.nonzero().cpu(), x.nonzero()));
  EXPECT_TRUE(at::equal(at::arange(5, at::TensorOptions(here_)).cpu(), at::arange(5)));
  EXPECT_TRUE(at::equal(at::zeros({3, 4}, on_device.options()).add_(on_device, 2).cpu(), 2 * x));
  EXPECT_TRUE(at::equal(on_device.select(1, 2).to(at::kDouble).cpu(), x.select(1, 2).to(at::kDouble)));
  EXPECT_EQ(on_device.max().item<float>(), 11);
}

TEST_F(Standin, WorksOnTheDeviceOfItsTensorsWhicheverIsCurrent) {
  const auto x = ramp().to(there_);
  EXPECT_TRUE(at::equal((x.abs() + x.mm(x.t()).sum()).isfinite().cpu(), at::ones({3, 4}, at::kBool)));
  EXPECT_EQ(peak_bytes(0), 0);
  EXPECT_FALSE(stats(0).used);
}

TEST_F(Standin, DifferentiatesWhatTheCpuDoes) {
  const at::AutoGradMode with_grad(true);
  const auto gradient = [](at::Device device) {
    const auto x = at::linspace(-1, 1, 2 * 3 * 6 * 6).reshape({2, 3, 6, 6}).to(device).requires_grad_(true);
    const auto weight = at::linspace(0, 1, 5 * 3 * 3 * 3).reshape({5, 3, 3, 3}).to(device);
    const auto bias = at::ones({5}, weight.options()).requires_grad_(true);
    const auto y = at::silu(at::conv2d(x, weight, bias, 1, 1)).square().mean();
    auto gradients = torch::autograd::grad({y}, {x, bias});
    return at::cat({gradients[0].flatten(), gradients[1]}).cpu();
  };
  EXPECT_TRUE(at::equal(gradient(here_), gradient(at::kCPU)));
}

TEST_F(Standin, ItsGeneratorHasTheNumbersOfTheCpu) {
  auto generator = at::globalContext().defaultGenerator(here_).clone();
  generator.set_current_seed(7);
  auto cpu = at::make_generator<at::CPUGeneratorImpl>(7);
  EXPECT_TRUE(at::equal(at::empty({5}, here_).normal_(0, 1, generator).cpu(), at::empty({5}).normal_(0, 1, cpu)));
}

using StandinDeathTest = Standin;

TEST_F(StandinDeathTest, AHostThatTouchesDeviceMemoryDies) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto read = [&] { return static_cast<const volatile float*>(ramp().to(here_).const_data_ptr())[0]; };
  const auto write = [&] { static_cast<volatile float*>(ramp().to(here_).mutable_data_ptr())[0] = 1; };
  EXPECT_DEATH(read(), "the host touched the memory of a device");
  EXPECT_DEATH(write(), "the host touched the memory of a device");
}

TEST_F(Standin, TensorsOfTwoDevicesAreRefused) {
  const auto x = ramp().to(here_);
  const auto refused = HasSubstr("Expected all tensors to be on the same device");
  EXPECT_THAT(error_of([&] { x.add(ramp()); }), refused);
  EXPECT_THAT(error_of([&] { ramp().add(x); }), refused);
  EXPECT_THAT(error_of([&] { x.mul(ramp().to(there_)); }), refused);
  EXPECT_THAT(error_of([&] { at::cat({x, ramp()}); }), refused);
  EXPECT_THAT(error_of([&] { x.index_select(0, at::tensor({1, 0}, at::kLong)); }), refused);
  EXPECT_TRUE(at::equal((x * at::scalar_tensor(2.0)).cpu(), ramp() * 2));  // a number of the CPU is a number
}

TEST_F(Standin, ACopyThatDoesNotBlockRunsWhenItIsWaitedFor) {
  const auto x = ramp().to(here_);
  const auto pinned = at::TensorOptions().dtype(at::kFloat).pinned_memory(true);
  const auto copies = [&](auto wait) {
    const auto host = at::empty({3, 4}, pinned);
    host.copy_(x, /*non_blocking=*/true);
    EXPECT_TRUE(host.isnan().all().item<bool>()) << "before the wait";
    wait();
    EXPECT_TRUE(at::equal(host, ramp())) << "after it";
  };
  copies([&] { impl_.synchronizeStream(impl_.getStream(here_)); });
  copies([&] { impl_.synchronizeDevice(0); });
  copies([&] { x.sum().item<float>(); });
  copies([&] {
    c10::Event event(at::kPrivateUse1);
    event.record(impl_.getStream(here_));
    EXPECT_FALSE(event.query());
    event.synchronize();
  });
}

TEST_F(Standin, AnEventCoversWhatWasQueuedBeforeItAlone) {
  const auto x = ramp().to(here_);
  const auto pinned = at::TensorOptions().dtype(at::kFloat).pinned_memory(true);
  const auto first = at::empty({3, 4}, pinned), second = at::empty({3, 4}, pinned);
  c10::Event event(at::kPrivateUse1);
  first.copy_(x, /*non_blocking=*/true);
  event.record(impl_.getStream(here_));
  second.copy_(x, /*non_blocking=*/true);
  event.synchronize();
  EXPECT_TRUE(at::equal(first, ramp()));
  EXPECT_TRUE(second.isnan().all().item<bool>());
  impl_.synchronizeDevice(0);
}

TEST_F(Standin, UsesOfMemoryOnTwoStreamsNeedAnOrder) {
  const auto other = impl_.getStreamFromGlobalPool(here_);
  const auto out_of_order = HasSubstr("no event or wait orders them");
  auto x = ramp().to(here_);
  x = x + 1;
  {
    const c10::StreamGuard on_other(other);
    EXPECT_THAT(error_of([&] { x.cpu(); }), out_of_order);  // written on the first
    EXPECT_THAT(error_of([&] { x.zero_(); }), out_of_order);
  }
  c10::Event event(at::kPrivateUse1);
  event.record(impl_.getStream(here_));
  event.block(other);
  {
    const c10::StreamGuard on_other(other);
    EXPECT_TRUE(at::equal(x.sum(0).cpu(), (ramp() + 1).sum(0)));  // this waits for the stream, too
    x.sum(0).numel();
  }
  EXPECT_THAT(error_of([&] { x.zero_(); }), out_of_order);  // still being read on the other
  impl_.synchronizeStream(other);
  x.zero_();
  EXPECT_EQ(stats(0).violations, 3);
}

TEST_F(Standin, MemoryThatAnotherStreamUsesIsNotFreedWithoutRecordStream) {
  const auto other = impl_.getStreamFromGlobalPool(here_);
  const auto copied = [&](bool recorded) {
    auto x = ramp().to(here_);
    impl_.synchronizeDevice(0);
    const auto host = at::empty({3, 4}, at::TensorOptions().dtype(at::kFloat).pinned_memory(true));
    {
      const c10::StreamGuard on_other(other);
      host.copy_(x, /*non_blocking=*/true);
    }
    if (recorded) x.record_stream(other);
    x.reset();
    EXPECT_EQ(bytes(0), recorded ? 48 : 0);  // while the copy is under way
    impl_.synchronizeStream(other);
    EXPECT_EQ(bytes(0), 0);
    return host;
  };
  EXPECT_TRUE(at::equal(copied(true), ramp()));
  EXPECT_THAT(error_of([&] { copied(false); }), HasSubstr("freed while stream"));
  EXPECT_EQ(stats(0).violations, 1);
}

TEST_F(Standin, TheHostLeavesTheSourceOfACopyAlone) {
  const auto source = ramp().pin_memory(), x = at::empty({3, 4}, here_);
  x.copy_(source, /*non_blocking=*/true);
  source.zero_();
  EXPECT_THAT(error_of([&] { impl_.synchronizeDevice(0); }), HasSubstr("the host changed the source"));
}

TEST_F(Standin, NewAndFreedMemoryHoldsNoNumbers) {
  const auto x = at::empty({3, 4}, here_);
  EXPECT_TRUE(x.cpu().isnan().all().item<bool>());
}

TEST_F(Standin, CountsCopiesAndWaits) {
  const auto x = ramp().to(here_);  // 1 up
  const auto host = at::empty({3, 4}, at::TensorOptions().pinned_memory(true));
  host.copy_(x, /*non_blocking=*/true);  // 1 down
  impl_.synchronizeDevice(0);
  x.sum().item<float>();                // 1 down
  const auto elsewhere = x.to(there_);  // 1 within
  const Stats s = stats(0);
  EXPECT_EQ(s.to_device.count, 1);
  EXPECT_EQ(s.to_device.bytes, 48);
  EXPECT_EQ(s.to_device.waiting, 1);
  EXPECT_EQ(s.to_host.count, 2);
  EXPECT_EQ(s.to_host.bytes, 48 + 4);
  EXPECT_EQ(s.to_host.waiting, 1);
  EXPECT_EQ(s.within.count, 1);
  EXPECT_EQ(s.waits, 3);
  EXPECT_TRUE(s.used);
  EXPECT_TRUE(stats(1).used);
  EXPECT_FALSE(stats(2).used);
  EXPECT_EQ(bytes(0), 48);
  EXPECT_EQ(bytes(1), 48);
}

TEST_F(Standin, KnowsThePeakOfItsMemory) {
  const auto x = at::empty({1024}, here_);
  reset_peak(0);
  { const auto y = x + 1, z = x + 2; }
  EXPECT_EQ(peak_bytes(0), 3 * 4096);
  EXPECT_EQ(bytes(0), 4096);
}

TEST_F(Standin, ASmallDeviceRunsOutOfMemory) {
  limit(0, 10'000);
  const auto x = at::empty({1024}, here_), y = x + 1;
  EXPECT_THROW(at::empty({1024}, here_), c10::OutOfMemoryError);
  limit(0, 0);
  at::empty({1024}, here_);
}

TEST_F(Standin, AFailureIsHeardOfAtTheNextWait) {
  const auto x = ramp().to(here_);
  fail_at(0, 2);
  const auto y = x + 1, z = y + 1, last = z + 1;
  EXPECT_THAT(error_of([&] { last.cpu(); }), HasSubstr("an operation failed"));
  EXPECT_THAT(error_of([&] { x.cpu(); }), HasSubstr("an operation failed"));
  reset_counts();
  EXPECT_TRUE(at::equal(last.cpu(), ramp() + 3));
}

TEST_F(Standin, TimeIsSpentByWhoeverWaits) {
  const auto x = ramp().to(here_);
  delay(0, 0.05);
  const auto seconds = [](auto work) {
    const auto start = std::chrono::steady_clock::now();
    work();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  EXPECT_LT(seconds([&] { x.add(1).add(1).add(1); }), 0.05);
  EXPECT_GE(seconds([&] { impl_.synchronizeDevice(0); }), 0.15);
  delay(0, 0);
}

TEST_F(Standin, AnEventOnAnotherDeviceTouchesTheCurrentOne) {
  c10::Event event(at::kPrivateUse1);
  reset_counts();
  event.record(impl_.getStream(there_));  // while device 0 is current, as a program that never chose one has it
  EXPECT_TRUE(stats(0).used);
  reset_counts();
  const c10::DeviceGuard guard(there_);
  event.record(impl_.getStream(there_));
  EXPECT_FALSE(stats(0).used);
}

}  // namespace
}  // namespace standin
