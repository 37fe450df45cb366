#include "epd/distributed/process_group.h"

#include <exception>

#include "c10d_group.h"
#include "epd/core/error.h"
#include "epd/core/interrupt.h"
#include "epd/core/log.h"
#include "epd/core/out_of_memory.h"
#include "epd/core/run_main.h"
#include "rendezvous.h"

namespace epd {
namespace {

/// One process: every collective is done before it begins.
class LocalGroup : public ProcessGroup {
 public:
  LocalGroup() : ProcessGroup(0, 1) {}

  void run(const std::function<void()>& work) override {
    try {
      work();
    } catch (...) {
      rethrow_as_error();
    }
  }
  void use_device(at::Device, const std::string&) override {}
  void all_reduce_sum(at::Tensor&, const std::string&) override {}
  void broadcast(at::Tensor&, int, const std::string&) override {}
  void barrier(const std::string&) override {}
  std::string broadcast_bytes(std::string bytes, const std::string&) override { return bytes; }
  std::vector<std::string> all_gather_bytes(std::string bytes, const std::string&) override {
    return {std::move(bytes)};
  }
  std::vector<std::string> gather_bytes(std::string bytes, const std::string&) override { return {std::move(bytes)}; }
  void check_interrupt() override { epd::check_interrupt(); }
};

}  // namespace

std::shared_ptr<ProcessGroup> ProcessGroup::alone() { return std::make_shared<LocalGroup>(); }

std::shared_ptr<ProcessGroup> ProcessGroup::from_environment(std::chrono::milliseconds timeout) {
  const auto environment = rank_environment();
  auto group = environment.size == 1 ? alone() : c10d_group(environment, timeout);
  // What all ranks remark is said once, by the root.
  if (!group->is_root() && log::level() == log::Level::kInfo) log::set_level(log::Level::kError);
  return group;
}

void ProcessGroup::require_same(const std::string& what, const std::string& value) {
  const auto values = all_gather_bytes(value, "comparing " + what);
  for (std::size_t rank = 1; rank < values.size(); ++rank) {
    EPD_REQUIRE(values[rank] == values[0], what, " differs between the processes: '", values[0], "' on rank 0, '",
                values[rank], "' on rank ", rank, "; start all processes with the same options and files");
  }
}

void report_once(const std::function<void()>& work) {
  try {
    work();
  } catch (const Error& e) {
    if (rank_environment().local_rank == 0) throw;
    throw AlreadyReported(e.what(), e.exit_code());
  }
}

std::optional<std::string> recall(const std::string& key) { return read_note(rank_environment(), key); }

void remember(const std::string& key, const std::string& value) { write_note(rank_environment(), key, value); }

void rethrow_as_error() {
  try {
    throw;
  } catch (const Error&) {
    throw;
  } catch (const std::exception& e) {
    const std::string what = e.what();
    log::debug(what);
    if (const auto out = out_of_memory(e)) throw *out;
    throw Error(one_line(what));
  }
}

}  // namespace epd
