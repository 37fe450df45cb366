#pragma once

#include <chrono>
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
};

/// Opens (rank 0) or joins the job's store and returns once all processes have joined it. Throws Error where the port
/// is taken, the store cannot be reached, a rank comes twice, or some do not come in time.
Rendezvous meet(const RankEnvironment& environment, std::chrono::milliseconds timeout);

}  // namespace epd
