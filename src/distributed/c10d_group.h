#pragma once

#include "epd/distributed/environment.h"
#include "epd/distributed/process_group.h"

namespace epd {

/// The processes of a job of more than one, over c10d (Gloo and NCCL).
std::shared_ptr<ProcessGroup> c10d_group(const RankEnvironment& environment, std::chrono::milliseconds timeout);

/// Inside a catch block: throws the current exception on, as it is where it is an Error of ours, otherwise as an Error
/// whose message says in one line what Torch (or the standard library) said at length.
[[noreturn]] void rethrow_as_error();

}  // namespace epd
