#pragma once

#include <ATen/ATen.h>
#include <ATen/core/Generator.h>
#include <c10/core/Storage.h>

#include <cstddef>
#include <vector>

#include "support/standin_runtime.h"

/// What the operations of the stand-in share.
namespace standin {

inline Runtime& runtime() { return Runtime::get(); }

inline bool on_standin(const at::Tensor& x) { return x.defined() && x.device().type() == kType; }

/// Of a tensor's storage; null where it has none.
inline const void* address_of(const at::Tensor& x) { return x.storage().data(); }
/// The same as a list of one or none.
std::vector<const void*> addresses_of(const at::Tensor& x);

/// The same numbers as a tensor of the CPU; it does not keep the memory.
at::Tensor kernel_view(const at::Tensor& x);

/// Kernels see tensors without a tape.
struct Kernel {
  const at::AutoDispatchBelowADInplaceOrView below{};
};

at::Tensor copy_from(const at::Tensor& from, const at::Tensor& to, bool non_blocking);
at::Tensor copy_from_and_resize(const at::Tensor& from, const at::Tensor& to);
c10::Scalar item(const at::Tensor& x);

/// The CPU's generator inside one of a device.
at::Generator generator_of_kernels(const at::Generator& generator);

/// Gives the storage of a device another size; what fits stays.
void resize_storage(const c10::Storage& storage, std::size_t bytes);

}  // namespace standin
