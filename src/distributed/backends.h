#pragma once

#include <chrono>
#include <string>
#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <torch/csrc/distributed/c10d/Store.hpp>

namespace epd {

using Backend = c10::intrusive_ptr<c10d::Backend>;
using Store = c10::intrusive_ptr<c10d::Store>;

/// Gloo's collectives, for CPU tensors, over the interface with this address (or GLOO_SOCKET_IFNAME's).
Backend gloo_backend(const Store& store, int rank, int size, const std::string& address,
                     std::chrono::milliseconds timeout);

/// NCCL's, for tensors on this CUDA device, connected to those of the other ranks; null in a build without it.
Backend nccl_backend(const Store& store, int rank, int size, at::Device device, std::chrono::milliseconds timeout);

}  // namespace epd
