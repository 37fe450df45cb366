#include "rendezvous.h"

#include <c10/util/Logging.h>
#include <unistd.h>

#include <algorithm>
#include <future>
#include <sstream>
#include <thread>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include "abandon.h"
#include "address.h"
#include "epd/core/error.h"
#include "epd/core/interrupt.h"
#include "epd/core/log.h"
#include "epd/core/progress.h"
#include "epd/core/run_main.h"
#include "job_failure.h"

namespace epd {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

std::string seconds(std::chrono::milliseconds time) { return duration_text(static_cast<double>(time.count()) / 1e3); }

/// One process of a job and the patience that is left to it.
class Meeting {
 public:
  Meeting(const RankEnvironment& environment, std::chrono::milliseconds timeout)
      : environment_(environment), timeout_(timeout), deadline_(Clock::now() + timeout) {}

  Rendezvous meet() {
    Rendezvous result;
    result.serves_store = environment_.rank == 0 && !environment_.agent_store;
    const auto connection = result.serves_store ? serve() : connect();
    const auto prefix = "epd/" + environment_.job;
    result.store = c10::make_intrusive<c10d::PrefixStore>(prefix, connection);
    join(*result.store);
    const auto members = await_members(*result.store);
    result.address = own_address(members);
    for (const auto& [address, name] : members) result.processes.push_back(name);
    result.watch_store = c10::make_intrusive<c10d::PrefixStore>(prefix, connection->clone());
    return result;
  }

 private:
  struct Member {
    std::string address, name;
  };

  std::string place() const { return text(environment_.master_address, ":", environment_.master_port); }

  c10d::TCPStoreOptions store_options() const {
    c10d::TCPStoreOptions options;
    options.port = environment_.master_port;
    options.waitWorkers = false;
    options.useLibUV = false;
    options.timeout = std::max(std::chrono::duration_cast<std::chrono::milliseconds>(deadline_ - Clock::now()),
                               std::chrono::milliseconds(1s));
    return options;
  }

  c10::intrusive_ptr<c10d::TCPStore> serve() const {
    auto options = store_options();
    options.isServer = true;
    try {
      return c10::make_intrusive<c10d::TCPStore>(environment_.master_address, options);
    } catch (const std::exception& e) {
      const std::string what = e.what();
      EPD_REQUIRE(what.find("EADDRINUSE") == what.npos && what.find("already in use") == what.npos, "MASTER_PORT ",
                  environment_.master_port,
                  " is in use on this machine: choose another (--master_port), or stop the job that holds it");
      throw Error(text("cannot serve this job's store on ", place(), ": ", one_line(what)));
    }
  }

  c10::intrusive_ptr<c10d::TCPStore> connect() const {
    while (!accepts_connections(environment_.master_address, environment_.master_port)) {
      EPD_REQUIRE(Clock::now() < deadline_, "rank ", environment_.rank, ": nothing answers at ", place(), " after ",
                  seconds(timeout_),
                  ": is rank 0 running there, and are MASTER_ADDR and MASTER_PORT the same for all?");
      check_interrupt();
      std::this_thread::sleep_for(100ms);
    }
    // Its constructor talks to whatever listens there, without a time limit of its own: so it has a thread of its own.
    std::packaged_task<c10::intrusive_ptr<c10d::TCPStore>()> open(
        [address = environment_.master_address, options = store_options()] {
          return c10::make_intrusive<c10d::TCPStore>(address, options);
        });
    auto opened = open.get_future();
    std::thread opening(std::move(open));
    std::string problem = "no answer";
    while (opened.wait_for(100ms) != std::future_status::ready && Clock::now() < deadline_ && !stop_requested()) {
    }
    if (opened.wait_for(0s) == std::future_status::ready) {
      opening.join();
      try {
        return opened.get();
      } catch (const std::exception& e) {
        problem = one_line(e.what());
      }
    } else {
      opening.detach();
      skip_static_destructors();
      check_interrupt();
    }
    throw Error(text("rank ", environment_.rank, ": no store of a job at ", place(),
                     ", some other program may hold the port: ", problem));
  }

  void join(c10d::Store& store) const {
    const int rank = environment_.rank;
    // A second process of this rank belongs to another job that was given the same port.
    EPD_REQUIRE(store.add(job_key::arrivals(rank), 1) == 1, "rank ", rank, " has joined the job at ", place(),
                " already: does another job use this MASTER_PORT?");
    const auto address = local_address_towards(environment_.master_address);
    store.set(job_key::member(rank), text(address, " rank ", rank, " (", host_name(), ", process ", getpid(), ")"));
    store.set(job_key::beat(rank), std::string("0"));
  }

  std::vector<Member> await_members(c10d::Store& store) const {
    std::vector<std::string> keys;
    for (int rank = 0; rank < environment_.size; ++rank) keys.push_back(job_key::member(rank));
    for (auto pause = 1ms; !store.check(keys); pause = std::min(pause * 2, 50ms)) {
      if (Clock::now() >= deadline_) throw Error(missing(store, keys));
      check_interrupt();
      std::this_thread::sleep_for(pause);
    }
    std::vector<Member> members;
    for (const auto& record : store.multiGet(keys)) {
      const std::string line(record.begin(), record.end());
      const auto space = line.find(' ');
      members.push_back({line.substr(0, space), line.substr(space + 1)});
    }
    return members;
  }

  std::string missing(c10d::Store& store, const std::vector<std::string>& keys) const {
    std::ostringstream ranks;
    for (std::size_t rank = 0; rank < keys.size(); ++rank) {
      if (!store.check({keys[rank]})) ranks << (ranks.tellp() > 0 ? ", " : "") << rank;
    }
    return text("the job has ", environment_.size, " processes (", environment_.launcher, "), but after ",
                seconds(timeout_), " these ranks are missing at ", place(), ": ", ranks.str());
  }

  /// Rank 0's way to itself leads over the loopback, where other machines do not find it: so it looks from one of them.
  static std::string own_address_towards(const std::vector<Member>& members, const std::string& own) {
    if (!is_loopback(own)) return own;
    const auto remote =
        std::ranges::find_if(members, [](const Member& member) { return !is_loopback(member.address); });
    return remote == members.end() ? own : local_address_towards(remote->address);
  }
  std::string own_address(const std::vector<Member>& members) const {
    return own_address_towards(members, members[environment_.rank].address);
  }

  const RankEnvironment& environment_;
  const std::chrono::milliseconds timeout_;
  const Clock::time_point deadline_;
};

}  // namespace

Rendezvous meet(const RankEnvironment& environment, std::chrono::milliseconds timeout) {
  // A taken port and a lost connection are ours to report, in one line; c10d would add lines with a C++ stack.
  constexpr int kFatal = 3;
  if (log::level() > log::Level::kDebug) FLAGS_caffe2_log_level = std::max(FLAGS_caffe2_log_level, kFatal);
  return Meeting(environment, timeout).meet();
}

}  // namespace epd
