#include <ATen/ATen.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/csrc/jit/passes/tensorexpr_fuser.h>
#include <torch/csrc/jit/runtime/graph_executor.h>

#include <cstdlib>

#include "epd/denoiser/device.h"
#include "support/test_files.h"

namespace epd {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

/// An accelerator by its type alone: nothing here touches a device.
const at::Device kSome(at::kPrivateUse1, 2);

/// Torch's settings as they were, when a test ends.
struct Settings {
  const bool cudnn = at::globalContext().deterministicCuDNN(), benchmark = at::globalContext().benchmarkCuDNN();
  const bool profiling = torch::jit::getProfilingMode(), fuser = torch::jit::tensorExprFuserEnabled();
  ~Settings() {
    at::globalContext().setDeterministicCuDNN(cudnn);
    at::globalContext().setBenchmarkCuDNN(benchmark);
    at::globalContext().setDeterministicAlgorithms(false, false);
    at::globalContext().setDeterministicFillUninitializedMemory(true);
    torch::jit::getProfilingMode() = profiling;
    torch::jit::setTensorExprFuserEnabled(fuser);
  }
};

TEST(Device, TheCpuNeedsNothing) {
  set_current(at::kCPU);
  synchronize(at::kCPU);
  EXPECT_EQ(kind_of(at::kCPU), "cpu");
  EXPECT_EQ(device_name(at::kCPU), "cpu");
  EXPECT_FALSE(memory_of(at::kCPU));
}

TEST(Device, AnAcceleratorRunsTorchScriptAsItStands) {
  const Settings before;
  make_reproducible(kSome);
  EXPECT_TRUE(at::globalContext().deterministicCuDNN());
  EXPECT_FALSE(torch::jit::getProfilingMode());
  EXPECT_FALSE(torch::jit::tensorExprFuserEnabled());
  EXPECT_EQ(at::globalContext().benchmarkCuDNN(), before.benchmark);
}

TEST(Device, GradientsAskForDeterministicKernelsAndFillNoMemory) {
  const Settings before;
  make_gradients_reproducible(kSome);
  EXPECT_TRUE(at::globalContext().deterministicAlgorithms());
  EXPECT_TRUE(at::globalContext().deterministicAlgorithmsWarnOnly());
  EXPECT_FALSE(at::globalContext().deterministicFillUninitializedMemory());
}

TEST(Device, TheCpuKeepsTorchsSettings) {
  const Settings before;
  make_reproducible(at::kCPU);
  make_gradients_reproducible(at::kCPU);
  EXPECT_EQ(at::globalContext().deterministicCuDNN(), before.cudnn);
  EXPECT_EQ(torch::jit::getProfilingMode(), before.profiling);
  EXPECT_EQ(torch::jit::tensorExprFuserEnabled(), before.fuser);
  EXPECT_FALSE(at::globalContext().deterministicAlgorithms());
  EXPECT_EQ(at::globalContext().benchmarkCuDNN(), before.benchmark);
}

TEST(Device, WhatCudasLibrariesAreToldDoesNotTouchWhatTheUserHasSet) {
  setenv("NCCL_NVLS_ENABLE", "1", 1);
  for (const char* name :
       {"CUBLAS_WORKSPACE_CONFIG", "TORCH_NCCL_ASYNC_ERROR_HANDLING", "TORCH_NCCL_ENABLE_MONITORING"}) {
    unsetenv(name);
  }
  set_environment();
  EXPECT_STREQ(std::getenv("NCCL_NVLS_ENABLE"), "1");
  EXPECT_STREQ(std::getenv("CUBLAS_WORKSPACE_CONFIG"), ":4096:8");
  EXPECT_STREQ(std::getenv("TORCH_NCCL_ASYNC_ERROR_HANDLING"), "0");
  EXPECT_STREQ(std::getenv("TORCH_NCCL_ENABLE_MONITORING"), "0");
  unsetenv("NCCL_NVLS_ENABLE");
  set_environment();
  EXPECT_STREQ(std::getenv("NCCL_NVLS_ENABLE"), "0");
}

TEST(Device, Tf32IsAllowedForAsLongAsItsScopeLives) {
  const auto allowed = [] { return at::globalContext().allowTF32CuBLAS() && at::globalContext().allowTF32CuDNN(); };
  {
    const Tf32 outer(kSome, true);
    EXPECT_TRUE(allowed());
    {
      const Tf32 inner(kSome, false);
      EXPECT_FALSE(at::globalContext().allowTF32CuBLAS());
      EXPECT_FALSE(at::globalContext().allowTF32CuDNN());
      const Tf32 on_the_cpu(at::kCPU, true);
      EXPECT_FALSE(allowed());
    }
    EXPECT_TRUE(allowed());
  }
  EXPECT_FALSE(at::globalContext().allowTF32CuBLAS());
}

TEST(Device, ACardWithoutAUsableDriverIsNamedWithItsDriver) {
  if (at::detail::getCUDAHooks().deviceCount() > 0) GTEST_SKIP() << "LibTorch sees a device";
  unsetenv("CUDA_VISIBLE_DEVICES");
  const test::TemporaryFolder root;
  EXPECT_THAT(unusable_cards(root.path()), IsEmpty());
  std::filesystem::create_directories(root.path() / "dev");
  write_file(root.path() / "dev/nvidia0", "");
  EXPECT_THAT(unusable_cards(root.path()), HasSubstr("driver of unknown version"));
  std::filesystem::create_directories(root.path() / "proc/driver/nvidia");
  write_file(root.path() / "proc/driver/nvidia/version",
             "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023\n"
             "GCC version:  gcc version 12.2.0 (Debian 12.2.0-14)\n");
  EXPECT_THAT(unusable_cards(root.path()), HasSubstr("driver 535.104.05"));
  for (const char* hidden : {"", "-1"}) {
    setenv("CUDA_VISIBLE_DEVICES", hidden, 1);
    EXPECT_THAT(unusable_cards(root.path()), IsEmpty());
  }
  unsetenv("CUDA_VISIBLE_DEVICES");
}

}  // namespace
}  // namespace epd
