#pragma once

#include <ATen/Context.h>

namespace epd {

/// Whether products and convolutions of float32 on a GPU are taken in TF32, for as long as this lives. Torch has one
/// setting for the whole process, so on the CPU, where threads work side by side, this leaves it alone.
class Tf32 {
 public:
  Tf32(at::Device device, bool allowed)
      : on_gpu_(device.is_cuda()), cublas_(context().allowTF32CuBLAS()), cudnn_(context().allowTF32CuDNN()) {
    if (on_gpu_) allow(allowed, allowed);
  }
  ~Tf32() {
    if (on_gpu_) allow(cublas_, cudnn_);
  }
  Tf32(const Tf32&) = delete;
  Tf32& operator=(const Tf32&) = delete;

 private:
  static at::Context& context() { return at::globalContext(); }
  static void allow(bool cublas, bool cudnn) {
    context().setAllowTF32CuBLAS(cublas);
    context().setAllowTF32CuDNN(cudnn);
  }
  const bool on_gpu_, cublas_, cudnn_;
};

}  // namespace epd
