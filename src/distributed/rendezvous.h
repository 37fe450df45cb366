#pragma once

#include <optional>
#include <string>
#include <torch/csrc/distributed/c10d/Store.hpp>
#include <vector>

#include "epd/distributed/environment.h"

namespace epd {

/// Where the processes of a job have met.
struct Rendezvous {
  c10::intrusive_ptr<c10d::Store> store;        // for the collectives
  c10::intrusive_ptr<c10d::Store> watch_store;  // the same store over a connection of its own
  bool serves_store = false;                    // this process holds it
  std::vector<std::string> processes;           // by rank: "rank 1 (host, process 123)"
  std::string address;                          // this machine as the other ranks reach it

  /// Opens (rank 0) or joins the job's store and returns once all processes have joined it. Says after a few seconds
  /// on whom it waits. Throws Error where the host is not known, the port is taken, the store cannot be reached, a rank
  /// comes twice, or some do not come within the environment's join_timeout; and as check_interrupt() does.
  static Rendezvous join(const RankEnvironment& environment);
};

/// What the store of torchrun's agent keeps over the restarts of the job's processes (epd::recall, epd::remember).
std::optional<std::string> read_note(const RankEnvironment& environment, const std::string& key);
void write_note(const RankEnvironment& environment, const std::string& key, const std::string& value);

}  // namespace epd
