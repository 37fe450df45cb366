#pragma once

#include "epd/distributed/environment.h"
#include "epd/distributed/process_group.h"

namespace epd {

/// The processes of a job of more than one, over c10d (Gloo and NCCL).
std::shared_ptr<ProcessGroup> c10d_group(const RankEnvironment& environment, at::DeviceType device,
                                         std::chrono::milliseconds timeout);

}  // namespace epd
