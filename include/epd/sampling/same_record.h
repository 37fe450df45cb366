#pragma once

#include "epd/distributed/process_group.h"
#include "epd/files/json.h"

namespace epd {

/// Throws Error, naming the first difference, on every rank whose record is not the root's. Called by all ranks.
void require_same_record(ProcessGroup& group, const Json& record);

}  // namespace epd
