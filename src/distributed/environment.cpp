#include "epd/distributed/environment.h"

#include <charconv>
#include <cstdlib>

#include "epd/core/error.h"

namespace epd {
namespace {

constexpr std::int64_t kMaxProcesses = 1 << 20, kMaxRestarts = 1 << 30, kMaxJoinSeconds = 30 * 24 * 3600;

std::optional<std::int64_t> number(const Variables& variables, const std::string& name, std::int64_t low,
                                   std::int64_t high) {
  const auto value = variables(name);
  if (!value) return std::nullopt;
  std::int64_t result = 0;
  const auto* end = value->data() + value->size();
  const auto [stop, code] = std::from_chars(value->data(), end, result);
  EPD_REQUIRE_USAGE(code == std::errc() && stop == end && result >= low && result <= high, "environment variable ",
                    name, "='", *value, "': expected a whole number from ", low, " to ", high);
  return result;
}

/// Rank, size and local rank out of three variables of which the first two must be set.
void read_ranks(RankEnvironment& result, const Variables& variables, const std::string& rank_name,
                const std::string& size_name, const std::string& local_rank_name) {
  const auto size = number(variables, size_name, 1, kMaxProcesses);
  const auto rank = number(variables, rank_name, 0, kMaxProcesses);
  EPD_REQUIRE_USAGE(rank, size_name, " is set but ", rank_name, " is not: set both or neither");
  EPD_REQUIRE_USAGE(size, rank_name, " is set but ", size_name, " is not: set both or neither");
  EPD_REQUIRE_USAGE(*rank < *size, rank_name, "=", *rank, " is outside a job of ", size_name, "=", *size,
                    " processes: ranks count from 0");
  result.rank = static_cast<int>(*rank);
  result.size = static_cast<int>(*size);
  const auto local_rank = number(variables, local_rank_name, 0, kMaxProcesses);
  EPD_REQUIRE_USAGE(!local_rank || *local_rank < *size, local_rank_name, "=", *local_rank, " is outside a job of ",
                    *size, " processes");
  result.local_rank = static_cast<int>(local_rank.value_or(*rank));
}

std::optional<std::uint16_t> master_port(const Variables& variables) {
  const auto port = number(variables, "MASTER_PORT", 1, 65535);
  return port ? std::optional(static_cast<std::uint16_t>(*port)) : std::nullopt;
}

/// A port that all processes of a job compute alike and other jobs of the machine rarely share: FNV-1a of the job's
/// name, folded into 20000 to 29999.
std::uint16_t port_of_job(const std::string& job) {
  std::uint32_t hash = 2166136261u;
  for (const unsigned char byte : job) hash = (hash ^ byte) * 16777619u;
  return static_cast<std::uint16_t>(20000 + hash % 10000);
}

RankEnvironment from_torchrun(const Variables& variables) {
  RankEnvironment result;
  result.launcher = "torchrun";
  read_ranks(result, variables, "RANK", "WORLD_SIZE", "LOCAL_RANK");
  result.agent_store = variables("TORCHELASTIC_USE_AGENT_STORE").value_or("") == "True";
  if (result.size == 1 && !result.agent_store) return result;
  const auto address = variables("MASTER_ADDR");
  const auto port = master_port(variables);
  EPD_REQUIRE_USAGE(address, "WORLD_SIZE=", result.size, " but MASTER_ADDR is not set: name the host of rank 0");
  EPD_REQUIRE_USAGE(port, "WORLD_SIZE=", result.size, " but MASTER_PORT is not set: name a free port of rank 0's host");
  result.master_address = *address;
  result.master_port = *port;
  result.job = variables("TORCHELASTIC_RUN_ID").value_or("run");
  result.restarts = static_cast<int>(number(variables, "TORCHELASTIC_RESTART_COUNT", 0, kMaxRestarts).value_or(0));
  return result;
}

RankEnvironment from_open_mpi(const Variables& variables) {
  RankEnvironment result;
  result.launcher = "Open MPI";
  read_ranks(result, variables, "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK");
  if (result.size == 1) return result;
  const auto address = variables("MASTER_ADDR");
  const auto local_size = number(variables, "OMPI_COMM_WORLD_LOCAL_SIZE", 1, kMaxProcesses).value_or(result.size);
  EPD_REQUIRE_USAGE(address || local_size == result.size, "mpirun placed ", result.size, " processes on several ",
                    "machines but MASTER_ADDR is not set: name the host of rank 0 (mpirun -x MASTER_ADDR=HOST)");
  result.master_address = address.value_or("127.0.0.1");
  result.job = variables("PMIX_NAMESPACE").value_or(variables("OMPI_MCA_ess_base_jobid").value_or("mpirun"));
  result.master_port = master_port(variables).value_or(port_of_job(result.job));
  return result;
}

/// Slurm's own number for the step in which `salloc` runs the user's shell.
const std::string kInteractiveStep = "4294967290";

/// The names that Slurm gives a job without one that a shell is started in.
bool names_a_shell(const std::string& job) {
  return job == "interactive" || job == "bash" || job == "sh" || job == "zsh" || job == "fish" || job == "tcsh";
}

RankEnvironment from_slurm(const Variables& variables) {
  RankEnvironment result;
  const bool in_step = variables("SLURM_STEP_NUM_TASKS").has_value();
  // A batch script, or a shell of salloc or srun --pty: Slurm started it once, and its variables count the allocation.
  if (!in_step && (!variables("SLURM_NTASKS") || names_a_shell(variables("SLURM_JOB_NAME").value_or(""))))
    return result;
  if (variables("SLURM_STEP_ID").value_or("") == kInteractiveStep) return result;
  result.launcher = "Slurm";
  read_ranks(result, variables, "SLURM_PROCID", in_step ? "SLURM_STEP_NUM_TASKS" : "SLURM_NTASKS", "SLURM_LOCALID");
  if (result.size == 1) return result;
  auto nodes = variables("SLURM_STEP_NODELIST");
  if (!nodes) nodes = variables("SLURM_JOB_NODELIST");
  auto address = variables("MASTER_ADDR");
  if (!address && nodes) address = first_host(*nodes);
  if (!address) address = variables("SLURM_LAUNCH_NODE_IPADDR");
  result.master_address = address.value_or("127.0.0.1");
  result.job = variables("SLURM_JOB_ID").value_or("slurm") + "." + variables("SLURM_STEP_ID").value_or("0");
  result.restarts = static_cast<int>(number(variables, "SLURM_RESTART_COUNT", 0, kMaxRestarts).value_or(0));
  result.master_port = master_port(variables).value_or(port_of_job(result.job));
  return result;
}

RankEnvironment from_launcher(const Variables& variables) {
  if (variables("RANK") || variables("WORLD_SIZE")) return from_torchrun(variables);
  if (variables("OMPI_COMM_WORLD_RANK") || variables("OMPI_COMM_WORLD_SIZE")) return from_open_mpi(variables);
  if (variables("SLURM_PROCID")) return from_slurm(variables);
  return {};
}

}  // namespace

std::string RankEnvironment::place() const {
  const bool ipv6 = master_address.find(':') != master_address.npos;
  return ipv6 ? text('[', master_address, "]:", master_port) : text(master_address, ':', master_port);
}

std::string first_host(const std::string& node_list) {
  const auto end = node_list.find_first_of(",[");
  if (end == node_list.npos || node_list[end] == ',') return node_list.substr(0, end);
  const auto number_end = node_list.find_first_of(",-]", end);
  EPD_REQUIRE_USAGE(number_end != node_list.npos, "cannot read Slurm's node list '", node_list, "'");
  const auto close = node_list.find(']', end);
  const auto rest = close == node_list.npos ? std::string() : node_list.substr(close + 1);
  return node_list.substr(0, end) + node_list.substr(end + 1, number_end - end - 1) + rest.substr(0, rest.find(','));
}

RankEnvironment rank_environment(const Variables& variables) {
  auto result = from_launcher(variables);
  auto& host = result.master_address;
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  if (const auto patience = number(variables, "EPD_JOIN_TIMEOUT", 1, kMaxJoinSeconds)) {
    result.join_timeout = std::chrono::seconds(*patience);
  }
  return result;
}

RankEnvironment rank_environment() {
  return rank_environment([](const std::string& name) -> std::optional<std::string> {
    const char* value = std::getenv(name.c_str());
    if (value == nullptr || *value == '\0') return std::nullopt;
    return value;
  });
}

}  // namespace epd
