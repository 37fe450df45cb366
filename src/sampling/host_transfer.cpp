#include "epd/sampling/host_transfer.h"

#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <utility>

namespace epd {

HostTransfer::HostTransfer(at::Device device) : device_(device) {
  if (!device.is_cpu()) stream_ = c10::impl::VirtualGuardImpl(device.type()).getStreamFromGlobalPool(device);
}

void HostTransfer::begin(const std::vector<at::Tensor>& tensors) {
  tensors_ = tensors;
  if (!stream_) return;
  c10::Event computed(device_.type());
  computed.record(c10::impl::VirtualGuardImpl(device_.type()).getStream(device_));
  computed.block(*stream_);
  const c10::StreamGuard on_stream(*stream_);
  for (auto& tensor : tensors_) {
    if (!tensor.defined()) continue;
    auto host = at::empty(tensor.sizes(), tensor.options().device(at::kCPU).pinned_memory(true));
    host.copy_(tensor, /*non_blocking=*/true);
    tensor.record_stream(*stream_);  // its memory is not given away before the copy is done
    tensor = std::move(host);
  }
  copied_.emplace(device_.type());
  copied_->record(*stream_);
}

std::vector<at::Tensor> HostTransfer::wait() {
  if (copied_) copied_->synchronize();
  return std::exchange(tensors_, {});
}

}  // namespace epd
