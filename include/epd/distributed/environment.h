#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>

namespace epd {

/// Looks an environment variable up; nothing where it is not set or empty.
using Variables = std::function<std::optional<std::string>(const std::string& name)>;

/// What a launcher told this process about its job.
struct RankEnvironment {
  int rank = 0, size = 1, local_rank = 0;
  std::string master_address = "127.0.0.1";
  std::uint16_t master_port = 0;  // 0 for a process alone
  bool agent_store = false;       // torchrun serves the store itself, on the master port
  std::string job;                // the job's name: the same for all its processes, and for each attempt of it
  int restarts = 0;               // how often this process's node was restarted; other nodes may count otherwise
  std::string launcher;           // for messages: "torchrun", "Slurm", "Open MPI"
  std::chrono::seconds join_timeout{600};  // how long the processes wait for each other to join

  /// "host:port", "[::1]:port".
  std::string place() const;
};

/// Reads, in this order,
///   RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT (torchrun and launch.sh),
///   OMPI_COMM_WORLD_RANK, _SIZE, _LOCAL_RANK (Open MPI; MASTER_ADDR where several machines take part),
///   SLURM_PROCID, SLURM_STEP_NUM_TASKS or SLURM_NTASKS, SLURM_LOCALID (Slurm; the first host of the node list serves).
/// A MASTER_ADDR and MASTER_PORT that are set win over what Slurm and Open MPI imply. None of them set: one process
/// alone, as in a shell that Slurm opened (salloc, srun --pty). EPD_JOIN_TIMEOUT: the seconds to wait for each other.
/// Throws UsageError for a variable that is missing, not a number or out of range.
RankEnvironment rank_environment(const Variables& variables);
/// The same of this process.
RankEnvironment rank_environment();

/// The first host of Slurm's list: "gpu[03-05,9],login1" gives "gpu03".
std::string first_host(const std::string& node_list);

}  // namespace epd
