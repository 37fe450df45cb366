#pragma once

#include <ATen/ATen.h>
#include <c10/core/Event.h>
#include <c10/core/Stream.h>

#include <optional>
#include <vector>

namespace epd {

/// Brings a batch's tensors from the device to the CPU while the device already computes the next batch: copies into
/// pinned memory on a stream of their own. On the CPU the tensors are handed on as they are.
///
///     transfer.begin(batch 0); compute batch 1; use(transfer.wait()); transfer.begin(batch 1); ...
class HostTransfer {
 public:
  explicit HostTransfer(at::Device device);

  /// Begins to copy; undefined tensors stay undefined. Nothing else may be under way.
  void begin(const std::vector<at::Tensor>& tensors);
  /// The tensors begun last, on the CPU, complete.
  std::vector<at::Tensor> wait();

 private:
  at::Device device_;
  std::optional<c10::Stream> stream_;
  std::optional<c10::Event> copied_;
  std::vector<at::Tensor> tensors_;
};

}  // namespace epd
