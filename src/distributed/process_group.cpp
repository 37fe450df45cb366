#include "epd/distributed/process_group.h"

#include <exception>

#include "epd/core/error.h"
#include "epd/core/log.h"
#include "groups.h"

namespace epd {

std::shared_ptr<ProcessGroup> ProcessGroup::from_environment(at::DeviceType device, std::chrono::milliseconds timeout) {
  const auto environment = rank_environment();
  // What all ranks remark is said once, by the root.
  if (environment.rank != 0 && log::level() == log::Level::kInfo) log::set_level(log::Level::kError);
  return environment.size == 1 ? alone() : c10d_group(environment, device, timeout);
}

void ProcessGroup::require_same(const std::string& what, const std::string& value) {
  const auto values = all_gather_bytes(value, "comparing " + what);
  for (std::size_t rank = 1; rank < values.size(); ++rank) {
    EPD_REQUIRE(values[rank] == values[0], what, " differs between the processes: '", values[0], "' on rank 0, '",
                values[rank], "' on rank ", rank, "; start all of them alike");
  }
}

RootFirst::RootFirst(ProcessGroup& group, std::string name) : group_(group), name_(std::move(name)) {
  if (!group_.is_root()) group_.barrier(name_);
}

RootFirst::~RootFirst() {
  if (!group_.is_root()) return;
  try {
    group_.barrier(name_);
  } catch (const std::exception& e) {
    log::debug(name_, ": ", e.what());
  }
}

}  // namespace epd
