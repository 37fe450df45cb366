#include "c10d_group.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <csignal>
#include <cstring>
#include <exception>
#include <thread>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>

#include "address.h"
#include "backends.h"
#include "epd/core/error.h"
#include "epd/core/interrupt.h"
#include "epd/core/log.h"
#include "epd/core/run_main.h"
#include "job_watch.h"
#include "rendezvous.h"

namespace epd {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;
using WorkPointer = c10::intrusive_ptr<c10d::Work>;

/// A rank that shows no life for this long is taken for dead; a shorter timeout of the user wins.
constexpr milliseconds kSilence = 15s;
/// c10d gives up later than we do, so that our message is the one that is seen.
constexpr milliseconds kMargin = 10s;
/// A rank that waits for the others heeds a signal only after this long: usually they all got it and are on their way.
constexpr auto kSignalPatience = 5s;

std::string joined(const std::vector<std::string>& names) {
  std::string result;
  for (const auto& name : names) result += (result.empty() ? "" : ", ") + name;
  return result;
}

at::Tensor as_tensor(const std::string& bytes, std::int64_t length) {
  auto tensor = at::zeros({length}, at::kByte);
  std::memcpy(tensor.data_ptr(), bytes.data(), bytes.size());
  return tensor;
}

std::string as_bytes(const at::Tensor& tensor, std::int64_t length) {
  return {static_cast<const char*>(tensor.const_data_ptr()), static_cast<std::size_t>(length)};
}

class C10dGroup : public ProcessGroup {
 public:
  C10dGroup(const RankEnvironment& environment, milliseconds timeout, Rendezvous met)
      : ProcessGroup(environment.rank, environment.size),
        timeout_(timeout),
        serves_store_(met.serves_store),
        names_(met.processes),
        store_(met.store),
        exceptions_(std::uncaught_exceptions()),
        watch_(JobWatch::start(met.watch_store, environment.rank, met.processes, std::min(kSilence, timeout))) {
    std::signal(SIGPIPE, SIG_IGN);  // a peer that is gone is an error to report, not a death
    gloo_ = gloo_backend(store_for("gloo"), rank(), size(), met.address, timeout + kMargin);
  }

  ~C10dGroup() override {
    if (!over_ && std::uncaught_exceptions() > exceptions_) {
      fail_with(1, text(name(), " failed"));
    } else if (!over_) {
      finish();
    }
  }

  void run(const std::function<void()>& work) override {
    try {
      try {
        work();
        watch_->await_all_done();
        epd::check_interrupt();
        if (nccl_) nccl_->shutdown();
        finish();
      } catch (...) {
        rethrow_as_error();
      }
    } catch (const Interrupted& e) {
      end_by(fail_with(e.exit_code(), e.what()));
    } catch (const CollectiveError& e) {
      end_by(fail_with(1, e.what()));
    } catch (const Error& e) {
      end_by(fail_with(e.exit_code(), is_root() ? e.what() : text("rank ", rank(), ": ", e.what())));
    }
  }

  void use_device(at::Device device, const std::string& card) override {
    const std::string kind = c10::DeviceTypeName(device.type(), /*lower_case=*/true);
    const auto cards = all_gather_bytes(device.is_cpu() ? kind : text(kind, '\n', host_name(), '\n', card), "devices");
    for (int r = 0; r < size(); ++r) {
      const auto kind_there = cards[r].substr(0, cards[r].find('\n'));
      EPD_REQUIRE_USAGE(kind_there == cards[0].substr(0, cards[0].find('\n')), "the processes compute on different ",
                        "kinds of devices: ", names_[r], " on ", kind_there, "; start all with one --device");
      const auto first = std::ranges::find(cards, cards[r]) - cards.begin();
      EPD_REQUIRE_USAGE(device.is_cpu() || first == r, names_[first], " and ", names_[r], " compute on the same ", kind,
                        " device: start no more processes on a machine than it has devices to see");
    }
    if (device.is_cuda()) nccl_ = nccl_backend(store_for("nccl"), rank(), size(), device, timeout_ + kMargin);
  }

  void all_reduce_sum(at::Tensor& tensor, const std::string& name) override {
    in_place(tensor, name, [](c10d::Backend& backend, std::vector<at::Tensor>& tensors) {
      return backend.allreduce(tensors, c10d::AllreduceOptions());
    });
  }

  void broadcast(at::Tensor& tensor, int root, const std::string& name) override {
    in_place(tensor, name, [root](c10d::Backend& backend, std::vector<at::Tensor>& tensors) {
      c10d::BroadcastOptions options;
      options.rootRank = root;
      return backend.broadcast(tensors, options);
    });
  }

  void barrier(const std::string& name) override {
    auto nothing = at::zeros({1}, at::kLong);
    all_reduce_sum(nothing, name);
  }

  std::string broadcast_bytes(std::string bytes, const std::string& name) override {
    auto length = at::scalar_tensor(static_cast<std::int64_t>(bytes.size()), at::kLong);
    broadcast(length, 0, name);
    const auto size = length.item<std::int64_t>();
    auto tensor = is_root() ? as_tensor(bytes, size) : at::zeros({size}, at::kByte);
    if (size > 0) broadcast(tensor, 0, name);
    return as_bytes(tensor, size);
  }

  std::vector<std::string> all_gather_bytes(std::string bytes, const std::string& name) override {
    const auto lengths = all_lengths(bytes, name);
    const auto longest = *std::ranges::max_element(lengths);
    std::vector<std::vector<at::Tensor>> outputs{empty_buffers(longest)};
    std::vector<at::Tensor> inputs{as_tensor(bytes, longest)};
    complete(name, [&] { return gloo_->allgather(outputs, inputs, c10d::AllgatherOptions()); });
    return unpacked(outputs[0], lengths);
  }

  std::vector<std::string> gather_bytes(std::string bytes, const std::string& name) override {
    const auto lengths = all_lengths(bytes, name);
    const auto longest = *std::ranges::max_element(lengths);
    std::vector<std::vector<at::Tensor>> outputs;
    if (is_root()) outputs.push_back(empty_buffers(longest));
    std::vector<at::Tensor> inputs{as_tensor(bytes, longest)};
    complete(name, [&] { return gloo_->gather(outputs, inputs, c10d::GatherOptions()); });
    return is_root() ? unpacked(outputs[0], lengths) : std::vector<std::string>{};
  }

  void check_interrupt() override {
    std::vector<at::Tensor> signal{at::scalar_tensor(pending_signal(), at::kLong)};
    c10d::AllreduceOptions options;
    options.reduceOp = c10d::ReduceOp::MAX;
    complete("looking for signals", [&] { return gloo_->allreduce(signal, options); });
    if (const auto found = signal[0].item<int>()) {
      request_stop(found);
      throw Interrupted(found);
    }
  }

 private:
  /// A collective that did not end well: the message names it and, where that is known, who is to blame.
  class CollectiveError : public Error {
   public:
    using Error::Error;
  };

  std::string name() const { return names_[rank()]; }

  Store store_for(const char* prefix) const { return c10::make_intrusive<c10d::PrefixStore>(prefix, store_); }

  std::vector<at::Tensor> empty_buffers(std::int64_t length) const {
    std::vector<at::Tensor> buffers;
    for (int r = 0; r < size(); ++r) buffers.push_back(at::zeros({length}, at::kByte));
    return buffers;
  }

  std::vector<std::string> unpacked(const std::vector<at::Tensor>& buffers, const std::vector<std::int64_t>& lengths) {
    std::vector<std::string> result;
    for (std::size_t r = 0; r < buffers.size(); ++r) result.push_back(as_bytes(buffers[r], lengths[r]));
    return result;
  }

  /// Of every rank's bytes.
  std::vector<std::int64_t> all_lengths(const std::string& bytes, const std::string& name) {
    auto lengths = at::zeros({size()}, at::kLong);
    lengths[rank()] = static_cast<std::int64_t>(bytes.size());
    all_reduce_sum(lengths, name);
    const auto* first = lengths.const_data_ptr<std::int64_t>();
    return {first, first + size()};
  }

  /// Runs a collective on the tensor where a backend can reach it: NCCL on its device, otherwise Gloo on the CPU.
  template <class Start>
  void in_place(at::Tensor& tensor, const std::string& name, const Start& start) {
    const bool by_nccl = nccl_ && tensor.is_cuda();
    std::vector<at::Tensor> tensors{(by_nccl ? tensor : tensor.cpu()).contiguous()};
    if (tensors[0].numel() == 0) return;
    complete(name, [&] { return start(by_nccl ? *nccl_ : *gloo_, tensors); });
    if (!tensors[0].is_same(tensor)) tensor.copy_(tensors[0]);
  }

  /// Starts a collective and waits for its end, for the end of the job, or for its time to run out.
  template <class Start>
  void complete(const std::string& name, const Start& start) {
    stop_if_job_failed();
    const auto begin = Clock::now();
    try {
      const WorkPointer work = start();
      while (!work->isCompleted()) {
        const auto waited = Clock::now() - begin;
        stop_if_job_failed();
        if (waited > timeout_) fail(name, text("not complete after ", timeout_.count() / 1e3, " s"));
        if (waited > kSignalPatience) epd::check_interrupt();
        std::this_thread::sleep_for(waited < 20ms ? 50us : 1000us);
      }
      work->wait();
    } catch (const Error&) {
      throw;
    } catch (const std::exception& e) {
      fail(name, one_line(e.what()));
    }
  }

  void stop_if_job_failed() {
    if (const auto failure = watch_->failure()) throw CollectiveError(failure->reason);
  }

  [[noreturn]] void fail(const std::string& name, const std::string& why) {
    // Whoever left with a word of its own said it before its connections broke.
    if (const auto failure = watch_->failure(1s)) throw CollectiveError(failure->reason);
    const auto silent = watch_->silent_ranks();
    stop_if_job_failed();
    if (silent.empty()) throw CollectiveError(text("'", name, "' of ", size(), " processes failed: ", why));
    throw CollectiveError(text("'", name, "' of ", size(), " processes failed: ", joined(silent),
                               " does not respond: killed or hanging"));
  }

  /// Tells the job why it ends, unless another rank was first, and leaves it. The reason that counts is returned.
  JobFailure fail_with(int exit_code, const std::string& reason) {
    const JobFailure own{rank(), exit_code, reason};
    auto counts = watch_->failure();
    if (!counts) counts = watch_->publish(own).value_or(JobFailure{-1, exit_code, reason});
    reported_elsewhere_ = !is_root() && counts->reporter >= 0 && watch_->root_will_report();
    over_ = true;
    // The threads of a broken group would make the destructors wait for peers that never answer.
    gloo_.release();
    nccl_.release();
    skip_static_destructors();
    watch_->shutdown(serves_store_);
    return *counts;
  }

  [[noreturn]] void end_by(const JobFailure& failure) {
    if (reported_elsewhere_) throw AlreadyReported(failure.reason, failure.exit_code);
    if (failure.exit_code > 128) throw Interrupted(failure.exit_code - 128);
    if (failure.exit_code == 2) throw UsageError(failure.reason);
    throw Error(failure.reason);
  }

  void finish() {
    over_ = true;
    watch_->shutdown(serves_store_);
  }

  const milliseconds timeout_;
  const bool serves_store_;
  const std::vector<std::string> names_;
  const Store store_;
  const int exceptions_;
  bool over_ = false, reported_elsewhere_ = false;
  const std::shared_ptr<JobWatch> watch_;
  Backend gloo_, nccl_;
};

}  // namespace

std::shared_ptr<ProcessGroup> c10d_group(const RankEnvironment& environment, milliseconds timeout) {
  auto met = Rendezvous::join(environment);
  log::debug(met.processes[environment.rank], " of ", environment.size, " (", environment.launcher, ") has joined");
  try {
    return std::make_shared<C10dGroup>(environment, timeout, std::move(met));
  } catch (const Error&) {
    throw;
  } catch (const std::exception& e) {
    log::debug(e.what());
    throw Error(text("rank ", environment.rank, ": the ", environment.size, " processes of the job connected to ",
                     environment.place(),
                     " but cannot connect to each other, or one has exited: ", one_line(e.what())));
  }
}

}  // namespace epd
