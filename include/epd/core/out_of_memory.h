#pragma once

#include <exception>
#include <optional>
#include <string_view>

#include "epd/core/error.h"

namespace epd {

/// Memory ran out: "out of memory: try smaller --chunk (2.00 GiB asked for, 1.13 GiB of 79.1 GiB free)".
class OutOfMemory : public Error {
 public:
  using Error::Error;
};

/// Options whose smaller values need less memory, where it is not known what ran.
inline constexpr std::string_view kSmallerOptions = "--batch, --batch_gpu or --chunk";
/// The same of the network and its gradients.
inline constexpr std::string_view kSmallerNetworkOptions = "--chunk or --points_at_once";

/// The error that names the options, where the exception says in whatever wrapping of LibTorch's that memory ran out
/// (TorchScript makes a std::runtime_error of it); nothing for any other.
std::optional<OutOfMemory> out_of_memory(const std::exception& e, std::string_view options = kSmallerOptions);

}  // namespace epd
