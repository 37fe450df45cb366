#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/native/ConvUtils.h>
#include <c10/core/Allocator.h>
#include <torch/library.h>

#include <algorithm>
#include <array>
#include <optional>
#include <tuple>
#include <vector>

#include "epd/denoiser/memory.h"

namespace epd {
namespace {

using at::IntArrayRef;
using at::Tensor;
using Given = std::optional<Tensor>;
using Three = std::tuple<Tensor, Tensor, Tensor>;
using Four = std::tuple<Tensor, Tensor, Tensor, Tensor>;

/// Memory on the device `meta`: no byte of it exists, each is counted.
class CountingAllocator : public c10::Allocator {
 public:
  c10::DataPtr allocate(std::size_t bytes) override {
    live += static_cast<std::int64_t>(bytes);
    peak = std::max(peak, live);
    return {nullptr, new std::size_t(bytes), &forget, c10::Device(c10::kMeta)};
  }
  void copy_data(void*, const void*, std::size_t) const override {}

  static inline std::int64_t live = 0, peak = 0;

 private:
  static void forget(void* size) {
    live -= static_cast<std::int64_t>(*static_cast<std::size_t*>(size));
    delete static_cast<std::size_t*>(size);
  }
};

/// What comes back to the CPU is finite and a valid index.
Tensor to_copy(const Tensor& x, std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
               std::optional<at::Device> device, std::optional<bool>, bool, std::optional<at::MemoryFormat>) {
  const auto options = x.options().dtype(dtype.value_or(x.scalar_type())).device(device.value_or(x.device()));
  if (!options.device().is_cpu()) return at::empty_like(x, options);
  return at::isIntegralType(x.scalar_type(), /*includeBool=*/false) ? at::zeros(x.sizes(), options)
                                                                    : at::ones(x.sizes(), options);
}

at::Scalar item(const Tensor& x) { return x.cpu().item(); }

Tensor copy_from_and_resize(const Tensor& from, const Tensor& to) {
  to.resize_(from.sizes());
  return to;
}

Tensor convolution(const Tensor& x, const Tensor& weight, const Given&, IntArrayRef stride, IntArrayRef padding,
                   IntArrayRef dilation, bool transposed, IntArrayRef output_padding, std::int64_t groups) {
  return at::empty(transposed ? at::native::conv_input_size(x.sizes(), weight.sizes(), padding, output_padding, stride,
                                                            dilation, groups)
                              : at::native::conv_output_size(x.sizes(), weight.sizes(), padding, stride, dilation),
                   x.options());
}

/// The gradient by the input; weights have none here.
Three convolution_backward(const Tensor&, const Tensor& x, const Tensor&, IntArrayRef, IntArrayRef, IntArrayRef, bool,
                           IntArrayRef, std::int64_t, std::array<bool, 3>) {
  return {at::empty_like(x), {}, {}};
}

Three group_norm(const Tensor& x, const Given&, const Given&, std::int64_t n, std::int64_t, std::int64_t,
                 std::int64_t groups, double) {
  return {at::empty_like(x), at::empty({n, groups}, x.options()), at::empty({n, groups}, x.options())};
}

Three group_norm_backward(const Tensor&, const Tensor& x, const Tensor&, const Tensor&, const Given&, std::int64_t,
                          std::int64_t, std::int64_t, std::int64_t, std::array<bool, 3>) {
  return {at::empty_like(x), {}, {}};
}

Three layer_norm(const Tensor& x, IntArrayRef normalized, const Given&, const Given&, double) {
  auto shape = x.sizes().vec();
  std::fill(shape.end() - static_cast<std::ptrdiff_t>(normalized.size()), shape.end(), 1);
  return {at::empty_like(x), at::empty(shape, x.options()), at::empty(shape, x.options())};
}

Three layer_norm_backward(const Tensor&, const Tensor& x, IntArrayRef, const Tensor&, const Tensor&, const Given&,
                          const Given&, std::array<bool, 3>) {
  return {at::empty_like(x), {}, {}};
}

Tensor where(const Tensor& condition, const Tensor& x, const Tensor& y) {
  const auto shape = at::infer_size(at::infer_size(condition.sizes(), x.sizes()), y.sizes());
  return at::empty(shape, x.options().dtype(at::result_type(x, y)));
}

Tensor& where_out(const Tensor&, const Tensor&, const Tensor&, Tensor& out) { return out; }

Four attention_kernel(const Tensor& q, const Tensor&, const Tensor& v, const Given&, bool keep, double, bool,
                      std::optional<double>) {
  const auto out = at::empty({q.size(0), q.size(1), q.size(2), v.size(3)}, q.options());
  const auto sums = at::empty({q.size(0), q.size(1), keep ? q.size(2) : 0}, q.options().dtype(at::kFloat));
  return {out, sums, at::empty({}, q.options().dtype(at::kLong)), at::empty({}, q.options().dtype(at::kLong))};
}

Four attention_kernel_backward(const Tensor&, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor&,
                               const Tensor&, const Tensor&, const Tensor&, const Tensor&, double, std::array<bool, 4>,
                               bool, std::optional<double>) {
  return {at::empty_like(q), at::empty_like(k), at::empty_like(v), {}};
}

/// One kernel, as on a GPU, where LibTorch would write out the matrix of products.
Tensor attention(const Tensor& q, const Tensor& k, const Tensor& v, const Given& mask, double dropout, bool causal,
                 std::optional<double> scale, bool) {
  const bool keep = at::GradMode::is_enabled() && (q.requires_grad() || k.requires_grad() || v.requires_grad());
  return std::get<0>(at::_scaled_dot_product_efficient_attention(q, k, v, mask, keep, dropout, causal, scale));
}

using Stack = torch::jit::Stack;
void on_cpu(const c10::OperatorHandle& op, Stack* stack) { at::native::cpu_fallback(op, stack); }

/// Operations that LibTorch has for the CPU, and in C++ not for tensors without data.
std::vector<c10::OperatorName> without_shapes() {
  std::vector<c10::OperatorName> result;
  auto& dispatcher = c10::Dispatcher::singleton();
  for (const auto& name : dispatcher.getAllOpNamesForDispatchKey(c10::DispatchKey::CPU)) {
    const auto op = dispatcher.findOp(name);
    if (name.name.starts_with("aten::") && op && op->hasSchema() &&
        !op->hasKernelForDispatchKey(c10::DispatchKey::Meta) &&
        !op->hasKernelForDispatchKey(c10::DispatchKey::CompositeExplicitAutograd)) {
      result.push_back(name);
    }
  }
  return result;
}

/// The kernels, and the allocator, for the rest of the process: only work that asks for the device `meta` meets them.
struct Kernels {
  CountingAllocator allocator;
  torch::Library meta{torch::Library::IMPL, "aten", c10::DispatchKey::Meta, __FILE__, __LINE__};
  torch::Library autograd{torch::Library::IMPL, "aten", c10::DispatchKey::AutogradMeta, __FILE__, __LINE__};

  Kernels() {
    c10::SetAllocator(c10::kMeta, &allocator, 1);
    meta.impl("_to_copy", TORCH_FN(to_copy));
    meta.impl("_local_scalar_dense", TORCH_FN(item));
    meta.impl("_copy_from_and_resize", TORCH_FN(copy_from_and_resize));
    meta.impl("convolution_overrideable", TORCH_FN(convolution));
    meta.impl("convolution_backward_overrideable", TORCH_FN(convolution_backward));
    meta.impl("native_group_norm", TORCH_FN(group_norm));
    meta.impl("native_group_norm_backward", TORCH_FN(group_norm_backward));
    meta.impl("native_layer_norm", TORCH_FN(layer_norm));
    meta.impl("native_layer_norm_backward", TORCH_FN(layer_norm_backward));
    meta.impl("where.self", TORCH_FN(where));
    meta.impl("where.self_out", TORCH_FN(where_out));
    meta.impl("_scaled_dot_product_efficient_attention", TORCH_FN(attention_kernel));
    meta.impl("_scaled_dot_product_efficient_attention_backward", TORCH_FN(attention_kernel_backward));
    meta.impl("scaled_dot_product_attention", TORCH_FN(attention));
    autograd.impl("scaled_dot_product_attention", TORCH_FN(attention));
    for (const auto& name : without_shapes()) {
      const auto bare = name.name.substr(6) + (name.overload_name.empty() ? "" : "." + name.overload_name);
      meta.impl(bare.c_str(), torch::CppFunction::makeFromBoxedFunction<&on_cpu>());
    }
  }
};

}  // namespace

std::int64_t held_bytes() { return CountingAllocator::live; }

std::int64_t peak_bytes(const std::function<void()>& work) {
  static Kernels& kernels = *new Kernels;  // tensors may outlive the program's static objects
  static_cast<void>(kernels);
  const auto before = CountingAllocator::live;
  CountingAllocator::peak = before;
  work();
  return CountingAllocator::peak - before;
}

}  // namespace epd
