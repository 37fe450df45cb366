#include "rendezvous.h"

#include <c10/util/Logging.h>
#include <unistd.h>

#include <algorithm>
#include <functional>
#include <future>
#include <thread>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include "address.h"
#include "epd/core/error.h"
#include "epd/core/interrupt.h"
#include "epd/core/log.h"
#include "epd/core/progress.h"
#include "epd/core/run_main.h"
#include "job_watch.h"

namespace epd {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;
using TcpStore = c10::intrusive_ptr<c10d::TCPStore>;

/// How long a store that accepts a connection may take to answer: another program that holds the port never does.
constexpr auto kAnswer = 10s;
/// When a process first says on whom it waits; then after twice as long, and so on.
constexpr auto kFirstRemark = 5s;
/// In the agent's store: where rank 0 of the present attempt serves the job's own store.
const std::string kServedAt = "served_at";

std::string seconds(std::chrono::seconds time) { return duration_text(static_cast<double>(time.count())); }

std::string as_text(const std::vector<std::uint8_t>& bytes) { return {bytes.begin(), bytes.end()}; }

/// One process of a job on its way to the others.
///
/// Rank 0 serves the job's store, on the master port. Where torchrun's agent holds that port with a store of its own,
/// which outlives the attempts of the job, rank 0 serves at any port and writes there which one: so the job's store is
/// fresh for each attempt and the same for all nodes, however often each of them was restarted.
class Joining {
 public:
  explicit Joining(const RankEnvironment& environment)
      : environment_(environment), begin_(Clock::now()), deadline_(begin_ + environment.join_timeout) {
    // A taken port and a lost connection are ours to report, in one line; c10d would add lines with a C++ stack.
    constexpr int kFatal = 3;
    if (log::level() > log::Level::kDebug) FLAGS_caffe2_log_level = std::max(FLAGS_caffe2_log_level, kFatal);
    const auto problem = resolution_error(environment.master_address);
    EPD_REQUIRE(problem.empty(), "rank ", environment.rank, ": the host of rank 0, '", environment.master_address,
                "' (MASTER_ADDR), is not known: ", problem);
  }

  Rendezvous join() {
    Rendezvous result;
    result.serves_store = environment_.rank == 0;
    const auto connection = result.serves_store ? serve() : find();
    result.store = keys_of_job(connection);
    const auto members = await_members(*result.store);
    result.address = own_address(members);
    for (const auto& [address, name] : members) result.processes.push_back(name);
    result.watch_store = keys_of_job(connection->clone());
    return result;
  }

  /// The store at the master port: rank 0's, or the agent's.
  TcpStore connect() {
    while (!accepts_connections(environment_.master_address, environment_.master_port)) {
      EPD_REQUIRE(keep_waiting([] { return "rank 0"; }), "rank ", environment_.rank, ": no response from ", place(),
                  " after ", seconds(environment_.join_timeout),
                  ": is rank 0 running there, and are MASTER_ADDR and MASTER_PORT the same for all?");
    }
    const auto [store, problem] = open(environment_.master_address, environment_.master_port);
    EPD_REQUIRE(store, "rank ", environment_.rank, ": no rendezvous store at ", place(),
                "; another program may use this port: ", problem);
    return store;
  }

  /// This job's part of a store.
  c10::intrusive_ptr<c10d::Store> keys_of_job(c10::intrusive_ptr<c10d::Store> store) const {
    return c10::make_intrusive<c10d::PrefixStore>("epd/" + environment_.job, std::move(store));
  }

 private:
  struct Member {
    std::string address, name;
  };

  std::string place() const { return environment_.place(); }

  /// To be called while something is missing: false once the time is over, otherwise a short rest. Throws as
  /// check_interrupt() does.
  bool keep_waiting(const std::function<std::string()>& whom) {
    check_interrupt();
    const auto now = Clock::now();
    if (now >= deadline_) return false;
    remark(whom);
    std::this_thread::sleep_for(std::clamp<Clock::duration>((now - begin_) / 10, 1ms, 100ms));
    return true;
  }

  /// Says now and then on whom this process waits.
  void remark(const std::function<std::string()>& whom) {
    if (Clock::now() - begin_ < next_remark_) return;
    next_remark_ *= 2;
    const bool by_slurm = environment_.launcher == "Slurm";
    log::info("rank ", environment_.rank, ": waiting for ", whom(), " at ", place(), ", up to ",
              seconds(environment_.join_timeout), " (EPD_JOIN_TIMEOUT sets it, in seconds)",
              by_slurm ? "; Slurm's variables count them: use srun, or unset SLURM_PROCID for one process" : "");
  }

  c10d::TCPStoreOptions store_options(std::uint16_t port) const {
    c10d::TCPStoreOptions options;
    options.port = port;
    options.waitWorkers = false;
    options.useLibUV = false;
    options.timeout = environment_.join_timeout;
    return options;
  }

  TcpStore open_server(const std::string& host, std::uint16_t port) {
    auto options = store_options(port);
    options.isServer = true;
    // It connects to itself by the host's name too, which may lead to it a little later than it starts.
    const auto [store, problem] = open(host, options, deadline_);
    EPD_REQUIRE(problem.find("EADDRINUSE") == problem.npos && problem.find("already in use") == problem.npos,
                "MASTER_PORT ", port,
                " is in use on this machine: choose another (--master_port), or stop the job that uses it");
    EPD_REQUIRE(store, "cannot open the rendezvous store on ", place(), ", is MASTER_ADDR this machine? ", problem);
    return store;
  }

  /// The store there; none, and why, where nothing answers as a store does.
  std::pair<TcpStore, std::string> open(const std::string& host, const c10d::TCPStoreOptions& options,
                                        Clock::time_point until) {
    // Its constructor talks to whatever listens there, without a time limit of its own: so it has a thread of its own.
    std::packaged_task<TcpStore()> task([=] { return c10::make_intrusive<c10d::TCPStore>(host, options); });
    auto opened = task.get_future();
    std::thread opening(std::move(task));
    while (opened.wait_for(100ms) != std::future_status::ready && Clock::now() < until && !stop_requested()) {
      remark([] { return "the job's store"; });
    }
    if (opened.wait_for(0s) != std::future_status::ready) {
      opening.detach();
      skip_static_destructors();
      check_interrupt();
      return {nullptr, "no answer"};
    }
    opening.join();
    try {
      return {opened.get(), {}};
    } catch (const std::exception& e) {
      return {nullptr, one_line(e.what())};
    }
  }
  /// One that is served elsewhere.
  std::pair<TcpStore, std::string> open(const std::string& host, std::uint16_t port) {
    return open(host, store_options(port), std::min(deadline_, Clock::now() + kAnswer));
  }

  /// Rank 0's store, in which it is the first.
  TcpStore serve() {
    const bool by_agent = environment_.agent_store;
    const auto agent = by_agent ? connect() : nullptr;
    const auto store =
        by_agent ? open_server("localhost", 0) : open_server(environment_.master_address, environment_.master_port);
    const auto own = arrive(*keys_of_job(store));
    if (agent) keys_of_job(agent)->set(kServedAt, text(store->getPort(), ' ', own));
    return store;
  }

  /// The store that rank 0 serves, joined.
  TcpStore find() {
    const auto store = connect();
    if (environment_.agent_store) return find_by_agent(*keys_of_job(store));
    // A second process of this rank belongs to another job that was given the same port.
    EPD_REQUIRE(!arrive(*keys_of_job(store)).empty(), "rank ", environment_.rank, " has joined the job at ", place(),
                " already: does another job use this MASTER_PORT?");
    return store;
  }

  TcpStore find_by_agent(c10d::Store& agent) {
    do {
      if (!agent.check({kServedAt})) continue;
      auto record = stream_of(as_text(agent.get(kServedAt)));
      std::uint16_t port = 0;
      std::string root;
      std::getline(record >> port >> std::ws, root);
      const auto address = root.substr(0, root.find(' '));
      const auto& host = is_loopback(address) ? environment_.master_address : address;
      if (!accepts_connections(host, port)) continue;  // an earlier attempt's
      const auto store = open(host, port).first;
      if (!store) continue;
      const auto keys = keys_of_job(store);
      if (keys->check({job_key::member(0)}) && as_text(keys->get(job_key::member(0))) == root &&
          !arrive(*keys).empty()) {
        return store;
      }
    } while (keep_waiting([] { return "rank 0"; }));
    throw Error(text("rank ", environment_.rank, ": rank 0 has not joined the job at ", place(), " after ",
                     seconds(environment_.join_timeout)));
  }

  /// Writes this process down and returns the record; nothing where its rank stands there already.
  std::string arrive(c10d::Store& store) const {
    const int rank = environment_.rank;
    if (store.add(job_key::arrivals(rank), 1) != 1) return {};
    const auto address = local_address_towards(environment_.master_address);
    const auto record = text(address, " rank ", rank, " (", host_name(), ", process ", getpid(), ")");
    store.set(job_key::member(rank), record);
    store.set(job_key::heartbeat(rank), std::string("0"));
    return record;
  }

  std::vector<Member> await_members(c10d::Store& store) {
    std::vector<std::string> keys;
    for (int rank = 0; rank < environment_.size; ++rank) keys.push_back(job_key::member(rank));
    if (environment_.rank != 0) next_remark_ = 24h;  // rank 0 says it for all
    const auto whom = [&] {
      const auto ranks = missing(store, keys);
      return text(std::ranges::count(ranks, ',') + 1, " of ", environment_.size, " processes (rank ", ranks, ")");
    };
    while (!store.check(keys)) {
      EPD_REQUIRE(keep_waiting(whom), "the job has ", environment_.size, " processes (", environment_.launcher,
                  "), but after ", seconds(environment_.join_timeout), " these ranks are missing at ", place(), ": ",
                  missing(store, keys));
    }
    std::vector<Member> members;
    for (const auto& record : store.multiGet(keys)) {
      const auto line = as_text(record);
      const auto space = line.find(' ');
      members.push_back({line.substr(0, space), line.substr(space + 1)});
    }
    return members;
  }

  static std::string missing(c10d::Store& store, const std::vector<std::string>& keys) {
    std::string ranks;
    for (std::size_t rank = 0; rank < keys.size(); ++rank) {
      if (!store.check({keys[rank]})) ranks += (ranks.empty() ? "" : ", ") + std::to_string(rank);
    }
    return ranks;
  }

  /// Rank 0's way to itself leads over the loopback, where other machines do not find it: so it looks from one of them.
  std::string own_address(const std::vector<Member>& members) const {
    const auto& own = members[environment_.rank].address;
    if (!is_loopback(own)) return own;
    const auto remote =
        std::ranges::find_if(members, [](const Member& member) { return !is_loopback(member.address); });
    return remote == members.end() ? own : local_address_towards(remote->address);
  }

  const RankEnvironment& environment_;
  const Clock::time_point begin_, deadline_;
  Clock::duration next_remark_ = kFirstRemark;
};

/// Of the agent's store; torchrun alone has one.
c10::intrusive_ptr<c10d::Store> notes(const RankEnvironment& environment) {
  if (!environment.agent_store) return nullptr;
  Joining joining(environment);
  return joining.keys_of_job(joining.connect());
}

}  // namespace

Rendezvous Rendezvous::join(const RankEnvironment& environment) { return Joining(environment).join(); }

std::optional<std::string> read_note(const RankEnvironment& environment, const std::string& key) {
  const auto store = notes(environment);
  if (!store || !store->check({"note/" + key})) return std::nullopt;
  return as_text(store->get("note/" + key));
}

void write_note(const RankEnvironment& environment, const std::string& key, const std::string& value) {
  if (const auto store = notes(environment)) store->set("note/" + key, value);
}

}  // namespace epd
