#include "epd/denoiser/device.h"

#include <ATen/ATen.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <dlfcn.h>
#include <torch/csrc/jit/passes/tensorexpr_fuser.h>
#include <torch/csrc/jit/runtime/graph_executor.h>
#include <torch/version.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <fstream>
#include <string_view>

#include "epd/core/error.h"

namespace epd {
namespace {

/// Not the CPU, nor `meta`, whose tensors have shapes only.
bool is_accelerator(at::Device device) { return !device.is_cpu() && !device.is_meta(); }

c10::impl::VirtualGuardImpl guard_of(at::Device device) { return c10::impl::VirtualGuardImpl(device.type()); }

at::DeviceIndex index_of(at::Device device) {
  return device.has_index() ? device.index() : guard_of(device).getDevice().index();
}

/// What the library of NVIDIA's driver tells about a card of ours; false where there is no such library or function.
template <class... Arguments>
bool ask_driver(const char* function, Arguments... arguments) {
  static void* const library = dlopen("libcuda.so.1", RTLD_NOW);
  if (library == nullptr) return false;
  using Function = int (*)(Arguments...);
  const auto call = reinterpret_cast<Function>(dlsym(library, function));
  return call != nullptr && call(arguments...) == 0;
}

/// The driver's number of a CUDA device, where CUDA_VISIBLE_DEVICES has been heeded.
std::optional<int> driver_device(at::Device device) {
  int number = 0;
  const bool known = device.is_cuda() && ask_driver("cuInit", 0U) &&
                     ask_driver("cuDeviceGet", &number, static_cast<int>(index_of(device)));
  return known ? std::optional(number) : std::nullopt;
}

/// "535.104.05" out of the driver's "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug ...".
std::string driver_version(const std::filesystem::path& file) {
  std::ifstream stream(file);
  std::string line, word;
  std::getline(stream, line);
  auto words = stream_of(line);
  while (words >> word) {
    if (word.find('.') != word.npos && word.find_first_not_of("0123456789.") == word.npos) return word;
  }
  return "of unknown version";
}

c10::DeviceAllocator* allocator_of(at::Device device) {
  const bool is_there = is_accelerator(device) && c10::impl::hasDeviceGuardImpl(device.type());
  if (!is_there || guard_of(device).deviceCount() == 0) return nullptr;
  at::globalContext().lazyInitDevice(device.type());
  return dynamic_cast<c10::DeviceAllocator*>(c10::GetAllocator(device.type()));
}

void allow_tf32(bool cublas, bool cudnn) {
  at::globalContext().setAllowTF32CuBLAS(cublas);
  at::globalContext().setAllowTF32CuDNN(cudnn);
}

}  // namespace

std::string kind_of(at::Device device) { return c10::DeviceTypeName(device.type(), /*lower_case=*/true); }

std::string device_name(at::Device device) {
  std::array<char, 256> name{};
  const auto number = driver_device(device);
  if (!number || !ask_driver("cuDeviceGetName", name.data(), static_cast<int>(name.size()), *number)) {
    return kind_of(device);
  }
  const auto& hooks = at::detail::getCUDAHooks();
  return text(name.data(), hooks.hasCuDNN() ? text(", cuDNN ", hooks.versionRuntimeCuDNN()) : "");
}

std::string device_identity(at::Device device) {
  std::array<unsigned char, 16> uuid{};
  const auto number = driver_device(device);
  // _v2 tells the parts of a divided card (MIG) apart.
  if (!number || !ask_driver("cuDeviceGetUuid_v2", uuid.data(), *number)) {
    const char* visible = device.is_cuda() ? std::getenv("CUDA_VISIBLE_DEVICES") : nullptr;
    return text(kind_of(device), " ", static_cast<int>(index_of(device)), visible != nullptr ? " of " : "",
                visible != nullptr ? visible : "");
  }
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string hex;
  for (const unsigned char byte : uuid) hex += {kDigits[byte >> 4], kDigits[byte & 15]};
  return hex;
}

std::string unusable_cards(const std::filesystem::path& root) {
  const char* visible = std::getenv("CUDA_VISIBLE_DEVICES");
  const bool hidden = visible != nullptr && (*visible == '\0' || std::string_view(visible) == "-1");
  if (hidden || !std::filesystem::exists(root / "dev/nvidia0")) return "";
  if (at::hasCUDA() && at::detail::getCUDAHooks().deviceCount() > 0) return "";
  return text("this machine has an NVIDIA GPU (driver ", driver_version(root / "proc/driver/nvidia/version"),
              ") that LibTorch ", TORCH_VERSION, " cannot use");
}

void set_environment() {
  constexpr std::array<std::pair<const char*, const char*>, 4> kVariables{{
      {"CUBLAS_WORKSPACE_CONFIG", ":4096:8"},    // matrix products whose sums have one order
      {"NCCL_NVLS_ENABLE", "0"},                 // sums inside the switch between the cards have none
      {"TORCH_NCCL_ASYNC_ERROR_HANDLING", "0"},  // a lost rank ends the job by its own watch, which says the reason;
      {"TORCH_NCCL_ENABLE_MONITORING", "0"},     // LibTorch would abort the process
  }};
  for (const auto& [name, value] : kVariables) setenv(name, value, /*overwrite=*/0);
}

void set_current(at::Device device) {
  if (is_accelerator(device)) guard_of(device).setDevice({device.type(), index_of(device)});
}

void synchronize(at::Device device) {
  if (is_accelerator(device)) guard_of(device).synchronizeDevice(index_of(device));
}

at::Tensor to_device(const at::Tensor& tensor, at::Device device) {
  if (!is_accelerator(device) || !tensor.is_cpu()) return tensor.to(device);
  return tensor.pin_memory().to(device, tensor.scalar_type(), /*non_blocking=*/true);
}

std::optional<DeviceMemory> memory_of(at::Device device) {
  auto* const allocator = allocator_of(device);
  if (allocator == nullptr) return std::nullopt;
  const auto [free, total] = allocator->getMemoryInfo(index_of(device));
  const auto bytes = allocator->getDeviceStats(index_of(device)).allocated_bytes[0];
  return DeviceMemory{static_cast<std::int64_t>(free), static_cast<std::int64_t>(total), bytes.peak};
}

void reset_peak_memory(at::Device device) {
  if (auto* const allocator = allocator_of(device)) allocator->resetPeakStats(index_of(device));
}

bool has_fast_bfloat16(at::Device device) {
  return device.is_cuda() && at::detail::getCUDAHooks().supportsBFloat16ConvolutionWithCuDNNv8();
}

void make_reproducible(at::Device device) {
  if (!is_accelerator(device)) return;
  at::globalContext().setDeterministicCuDNN(true);
  torch::jit::getProfilingMode() = false;
  torch::jit::setTensorExprFuserEnabled(false);
}

void make_gradients_reproducible(at::Device device) {
  if (!is_accelerator(device)) return;
  at::globalContext().setDeterministicAlgorithms(true, /*warn_only=*/true);
  at::globalContext().setDeterministicFillUninitializedMemory(false);  // we read none
}

Tf32::Tf32(at::Device device, bool allowed)
    : on_accelerator_(is_accelerator(device)),
      cublas_(at::globalContext().allowTF32CuBLAS()),
      cudnn_(at::globalContext().allowTF32CuDNN()) {
  if (on_accelerator_) allow_tf32(allowed, allowed);
}

Tf32::~Tf32() {
  if (on_accelerator_) allow_tf32(cublas_, cudnn_);
}

}  // namespace epd
