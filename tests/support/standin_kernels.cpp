// The operations of the stand-in: all are the CPU's, on the addresses that only kernels may touch.
#include "support/standin_kernels.h"

#include <ATen/ATen.h>
#include <ATen/EmptyTensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/native/Resize.h>
#include <ATen/native/transformers/attention.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/set_native.h>
#include <ATen/ops/unfold_native.h>
#include <ATen/ops/view_native.h>
#include <torch/library.h>

#include <algorithm>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "support/standin_runtime.h"

namespace standin {
namespace {

c10::Device device_of(std::optional<c10::Device> device) {
  return device && device->has_index() ? *device : runtime().current_device();
}

at::Tensor empty(c10::IntArrayRef sizes, std::optional<c10::ScalarType> dtype, std::optional<c10::Layout>,
                 std::optional<c10::Device> device, std::optional<bool>, std::optional<c10::MemoryFormat> format) {
  const c10::DeviceGuard guard(device_of(device));
  return at::detail::empty_generic(sizes, c10::GetAllocator(kType), c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                   c10::dtype_or_default(dtype), format);
}

at::Tensor empty_strided(c10::IntArrayRef sizes, c10::IntArrayRef strides, std::optional<c10::ScalarType> dtype,
                         std::optional<c10::Layout>, std::optional<c10::Device> device, std::optional<bool>) {
  const c10::DeviceGuard guard(device_of(device));
  return at::detail::empty_strided_generic(sizes, strides, c10::GetAllocator(kType),
                                           c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                           c10::dtype_or_default(dtype));
}

/// One call of an operation that the stand-in has no kernel of its own for: the CPU's, on the same bytes.
class CpuCall {
 public:
  CpuCall(const c10::OperatorHandle& op, torch::jit::Stack& stack) : op_(op), stack_(stack) {}

  void run() {
    const auto& arguments = op_.schema().arguments();
    const std::size_t begin = stack_.size() - arguments.size();
    for (std::size_t i = 0; i < arguments.size(); ++i) {
      const auto* alias = arguments[i].alias_info();
      writes_ = alias != nullptr && alias->isWrite();
      stack_[begin + i] = on_cpu(stack_[begin + i]);
    }
    const auto stream = runtime().current_stream(device());
    runtime().launch(stream, read_, written_);
    // The host cannot know the shape of such a result before it is there.
    static const std::set<std::string> shaped_by_values{"aten::nonzero", "aten::masked_select", "aten::_unique2",
                                                        "aten::equal",   "aten::index",         "aten::bincount"};
    if (shaped_by_values.contains(op_.schema().name()) && (op_.schema().name() != "aten::index" || has_mask_)) {
      runtime().wait(stream);
    }
    const Kernel kernel;
    call();
    const std::size_t first = stack_.size() - op_.schema().returns().size();
    for (std::size_t i = first; i < stack_.size(); ++i) stack_[i] = on_device(stack_[i]);
  }

 private:
  /// A tensor of the device, and as its kernel sees it.
  struct Pair {
    at::Tensor outside, inside;
  };

  c10::Device device() const { return device_ ? *device_ : runtime().current_device(); }

  c10::IValue on_cpu(const c10::IValue& value) {
    if (value.isTensor()) return view(value.toTensor());
    if (value.isGenerator()) return generator_of_kernels(value.toGenerator());
    if (value.isDevice()) {
      if (value.toDevice().type() != kType) return value;
      if (!device_) device_ = device_of(value.toDevice());
      return c10::Device(c10::kCPU);
    }
    if (value.isTensorList()) {
      c10::List<at::Tensor> views;
      for (const at::Tensor& x : value.toTensorVector()) views.push_back(view(x));
      return views;
    }
    if (value.isOptionalTensorList()) {
      c10::List<std::optional<at::Tensor>> views;
      for (const std::optional<at::Tensor>& x : value.toOptionalTensorList()) {
        views.push_back(x ? std::optional(view(*x)) : std::nullopt);
      }
      return views;
    }
    return value;
  }

  at::Tensor view(const at::Tensor& x) {
    if (!x.defined()) return x;
    if (!on_standin(x)) {
      if (x.dim() == 0) return x;
      foreign_ = x.device();
    } else if (!device_) {
      device_ = x.device();
    } else if (x.device() != *device_) {
      foreign_ = x.device();
    }
    TORCH_CHECK(!foreign_ || !device_, "Expected all tensors to be on the same device, but ", op_.schema().name(),
                " got ", *foreign_, " and ", device_.value_or(*foreign_));
    if (!on_standin(x)) return x;
    has_mask_ = has_mask_ || x.scalar_type() == at::kBool || x.scalar_type() == at::kByte;
    if (address_of(x) != nullptr) (writes_ ? written_ : read_).push_back(address_of(x));
    // An empty result is given its size by the kernel.
    auto inside = writes_ && x.numel() == 0 ? at::empty({0}, at::TensorOptions().dtype(x.dtype())) : kernel_view(x);
    pairs_.push_back({x, inside});
    return inside;
  }

  void call() {
    const std::string& name = op_.schema().name();
    if (name == "aten::convolution_overrideable") return call("aten::convolution", "");
    if (name == "aten::convolution_backward_overrideable") {
      // grad_output, input, weight | sizes of the bias | ...
      const std::size_t begin = stack_.size() - op_.schema().arguments().size();
      const bool has_bias = stack_.back().toBoolList()[2];
      const auto channels = stack_[begin].toTensor().size(1);
      const auto bias_sizes = has_bias ? c10::IValue(std::vector<std::int64_t>{channels}) : c10::IValue();
      stack_.insert(stack_.begin() + static_cast<std::ptrdiff_t>(begin) + 3, bias_sizes);
      return call("aten::convolution_backward", "");
    }
    op_.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), &stack_);
  }

  void call(const char* name, const char* overload) {
    c10::Dispatcher::singleton().findSchemaOrThrow(name, overload).callBoxed(&stack_);
  }

  c10::IValue on_device(const c10::IValue& value) {
    if (value.isTensor()) return outside(value.toTensor());
    if (!value.isTensorList()) return value;
    c10::List<at::Tensor> result;
    for (const at::Tensor& x : value.toTensorVector()) result.push_back(outside(x));
    return result;
  }

  at::Tensor outside(const at::Tensor& x) {
    if (!x.defined()) return x;
    for (const Pair& pair : pairs_) {
      if (!x.is_same(pair.inside)) continue;
      if (pair.outside.sizes() == x.sizes()) return pair.outside;
      pair.outside.resize_(x.sizes());
      kernel_view(pair.outside).copy_(x);
      return pair.outside;
    }
    for (const Pair& pair : pairs_) {
      TORCH_CHECK(x.numel() == 0 || !x.is_alias_of(pair.inside), "standin: ", op_.schema().name(),
                  " makes a view, which it has no kernel for");
    }
    const auto result = empty_strided(x.sizes(), x.strides(), x.scalar_type(), {}, device(), {});
    kernel_view(result).copy_(x);
    return result;
  }

  const c10::OperatorHandle& op_;
  torch::jit::Stack& stack_;
  std::vector<Pair> pairs_;
  std::vector<const void*> read_, written_;
  std::optional<c10::Device> device_, foreign_;
  bool writes_ = false, has_mask_ = false;
};

void on_the_cpu(const c10::OperatorHandle& op, torch::jit::Stack* stack) { CpuCall(op, *stack).run(); }

at::Tensor as_strided(const at::Tensor& x, c10::IntArrayRef sizes, c10::IntArrayRef strides,
                      std::optional<std::int64_t> offset) {
  return at::native::as_strided_tensorimpl(x, sizes, strides, offset);
}
at::Tensor view(const at::Tensor& x, c10::IntArrayRef sizes) { return at::native::view(x, sizes); }
at::Tensor reshape_alias(const at::Tensor& x, c10::IntArrayRef sizes, c10::IntArrayRef strides) {
  return at::native::_reshape_alias(x, sizes, strides);
}
at::Tensor unfold(const at::Tensor& x, std::int64_t dim, std::int64_t size, std::int64_t step) {
  return at::native::unfold(x, dim, size, step);
}
const at::Tensor& resize(const at::Tensor& x, c10::IntArrayRef sizes, std::optional<c10::MemoryFormat> format) {
  const c10::DeviceGuard guard(x.device());
  return at::native::resize_(x, sizes, format);
}
at::Tensor& set_storage(at::Tensor& x, c10::Storage storage) {
  const auto count = static_cast<std::int64_t>(storage.nbytes() / x.dtype().itemsize());
  return at::native::set_storage_cpu_(x, std::move(storage), 0, {count}, {});
}
at::Tensor& set_storage_at(at::Tensor& x, c10::Storage storage, std::int64_t offset, c10::IntArrayRef sizes,
                           c10::IntArrayRef strides) {
  return at::native::set_storage_cpu_(x, std::move(storage), offset, sizes, strides);
}
void record_stream(at::Tensor& x, c10::Stream stream) { runtime().record_stream(address_of(x), stream); }

TORCH_LIBRARY_IMPL(_, PrivateUse1, m) { m.fallback(torch::CppFunction::makeFromBoxedFunction<&on_the_cpu>()); }

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("empty.memory_format", empty);
  m.impl("empty_strided", empty_strided);
  m.impl("_copy_from", copy_from);
  m.impl("_copy_from_and_resize", copy_from_and_resize);
  m.impl("_local_scalar_dense", item);
  m.impl("as_strided", as_strided);
  m.impl("view", view);
  m.impl("_reshape_alias", reshape_alias);
  m.impl("unfold", unfold);
  m.impl("resize_", resize);
  m.impl("set_.source_Storage", set_storage);
  m.impl("set_.source_Storage_storage_offset", set_storage_at);
  m.impl("record_stream", record_stream);
  // LibTorch would refuse the first two, and make the others out of several operations, as no GPU does.
  for (const char* name : {"convolution_overrideable", "convolution_backward_overrideable", "silu_backward",
                           "native_group_norm", "native_layer_norm"}) {
    m.impl(name, torch::CppFunction::makeFromBoxedFunction<&on_the_cpu>());
  }
}

}  // namespace

void resize_storage(const c10::Storage& storage, std::size_t bytes) {
  auto* impl = storage.unsafeGetStorageImpl();
  const c10::DeviceGuard guard(storage.device());
  auto* allocator = c10::GetAllocator(kType);
  auto data = allocator->allocate(bytes);
  const std::size_t kept = std::min(impl->nbytes(), bytes);
  if (kept > 0) allocator->copy_data(data.get(), storage.data(), kept);
  impl->set_data_ptr_noswap(std::move(data));
  impl->set_nbytes(bytes);
}

}  // namespace standin
