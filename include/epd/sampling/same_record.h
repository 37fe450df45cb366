#pragma once

#include <nlohmann/json_fwd.hpp>

#include "epd/distributed/process_group.h"

namespace epd {

/// Throws Error, naming the first difference, on every rank whose record is not the root's. Called by all ranks.
void require_same_record(ProcessGroup& group, const nlohmann::ordered_json& record);

}  // namespace epd
