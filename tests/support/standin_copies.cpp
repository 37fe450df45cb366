// Copies of the stand-in, between its devices and the host.
#include <ATen/ATen.h>

#include <cstring>

#include "support/standin_kernels.h"

namespace standin {

std::vector<const void*> addresses_of(const at::Tensor& x) {
  return address_of(x) == nullptr ? std::vector<const void*>{} : std::vector{address_of(x)};
}

at::Tensor kernel_view(const at::Tensor& x) {
  const auto options = at::TensorOptions().dtype(x.dtype());
  if (address_of(x) == nullptr) return at::empty_strided(x.sizes(), x.strides(), options);
  char* data = runtime().arena().kernel_view(address_of(x)) +
               static_cast<std::size_t>(x.storage_offset()) * x.dtype().itemsize();
  return at::from_blob(data, x.sizes(), x.strides(), options);
}

namespace {

void copy_to_host(const at::Tensor& from, const at::Tensor& to, bool queued) {
  const auto stream = runtime().current_stream(from.device());
  runtime().launch(stream, addresses_of(from), {});
  runtime().count_copy(from.device().index(), &Stats::to_host, from.nbytes(), !queued);
  const auto copy = [view = kernel_view(from), to] {
    const Kernel kernel;
    to.copy_(view);
  };
  if (queued) return runtime().enqueue(stream, copy);
  runtime().wait(stream);
  copy();
}

void copy_to_device(const at::Tensor& from, const at::Tensor& to, bool queued) {
  const auto stream = runtime().current_stream(to.device());
  runtime().launch(stream, {}, addresses_of(to));
  runtime().count_copy(to.device().index(), &Stats::to_device, from.nbytes(), !queued);
  kernel_view(to).copy_(from);
  if (!queued) return runtime().wait(stream);
  if (!from.is_pinned()) return;  // other memory is taken at once
  runtime().enqueue(stream, [from, device = to.device(), before = from.clone()] {
    const Kernel kernel;
    const auto now = from.contiguous(), then = before.contiguous();
    if (std::memcmp(now.const_data_ptr(), then.const_data_ptr(), then.nbytes()) != 0) {
      runtime().fail(device.index(), "the host changed the source of a copy that had not been waited for");
    }
  });
}

void copy_within(const at::Tensor& from, const at::Tensor& to) {
  const auto source = runtime().current_stream(from.device()), target = runtime().current_stream(to.device());
  Event ready, done;
  if (source != target) {  // as CUDA orders copies between devices
    runtime().record(ready, target);
    runtime().block(ready, source);
  }
  runtime().launch(source, addresses_of(from), addresses_of(to));
  runtime().count_copy(from.device().index(), &Stats::within, from.nbytes(), false);
  kernel_view(to).copy_(kernel_view(from));
  if (source != target) {
    runtime().record(done, source);
    runtime().block(done, target);
  }
}

}  // namespace

at::Tensor copy_from(const at::Tensor& from, const at::Tensor& to, bool non_blocking) {
  if (from.numel() == 0) return to;
  const Kernel kernel;
  if (on_standin(from) && on_standin(to)) {
    copy_within(from, to);
  } else if (on_standin(from)) {
    copy_to_host(from, to, non_blocking);
  } else {
    copy_to_device(from.expand(to.sizes()), to, non_blocking);
  }
  return to;
}

at::Tensor copy_from_and_resize(const at::Tensor& from, const at::Tensor& to) {
  if (from.sizes() != to.sizes()) to.resize_(from.sizes());
  return copy_from(from, to, /*non_blocking=*/false);
}

c10::Scalar item(const at::Tensor& x) {
  const auto value = at::empty(x.sizes(), at::TensorOptions().dtype(x.dtype()));
  copy_from(x, value, /*non_blocking=*/false);
  return value.item();
}

}  // namespace standin
