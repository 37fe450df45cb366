#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

/// The devices of a run: the CPU, or whatever accelerator LibTorch knows. CUDA is named in device.cpp alone, where
/// nobody else could be asked.
namespace epd {

/// "cpu", "cuda", ...: what decides results, beside the precision.
std::string kind_of(at::Device device);

/// The card's own name ("NVIDIA H100 80GB HBM3") and the version of cuDNN, for the record; else its kind.
std::string device_name(at::Device device);

/// A text that two processes share only where they compute on the same card: its UUID where the driver says it.
std::string device_identity(at::Device device);

/// Why the cards of this machine cannot be used, with the driver's version: it has some, and LibTorch sees none. Empty
/// where there are none, where LibTorch sees them, or where CUDA_VISIBLE_DEVICES hides them. `root` is for tests.
std::string unusable_cards(const std::filesystem::path& root = "/");

/// What CUDA's libraries are told through the environment, before any of them starts; what the user has set stays.
void set_environment();

/// Makes the device this thread's current one, so that nothing allocates or waits on another.
void set_current(at::Device device);

/// Returns once the device has done all that it was told. A clock that is read without it stops too early.
void synchronize(at::Device device);

/// A tensor on the device. From the CPU it is copied through pinned memory while the host goes on.
at::Tensor to_device(const at::Tensor& tensor, at::Device device);

/// Bytes of a device's memory.
struct DeviceMemory {
  std::int64_t free = 0, total = 0;  // of the whole device, whoever uses it
  std::int64_t peak = 0;             // of this process's tensors, since reset_peak_memory
};
/// Nothing on the CPU, and where the device does not say.
std::optional<DeviceMemory> memory_of(at::Device device);
void reset_peak_memory(at::Device device);

/// Whether the device computes convolutions and matrix products in bfloat16 at full speed.
bool has_fast_bfloat16(at::Device device);

/// Torch's settings for the whole process, before a network is loaded on an accelerator: cuDNN's deterministic
/// algorithms, and TorchScript as it stands - profiled, its kernels would be fused after the first batches, and their
/// rounding would depend on how far the run has got. Leaves the CPU alone.
void make_reproducible(at::Device device);
/// The same where gradients are taken: every operation's deterministic kernel where it has one; Torch warns of others.
void make_gradients_reproducible(at::Device device);

/// Whether float32 products and convolutions on a GPU are computed in TF32, for as long as this lives. Torch has one
/// setting for the whole process, so on the CPU, where threads work side by side, this leaves it alone.
class Tf32 {
 public:
  Tf32(at::Device device, bool allowed);
  ~Tf32();
  Tf32(const Tf32&) = delete;
  Tf32& operator=(const Tf32&) = delete;

 private:
  const bool on_accelerator_, cublas_, cudnn_;
};

}  // namespace epd
