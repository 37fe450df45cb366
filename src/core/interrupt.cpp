#include "epd/core/interrupt.h"

#include <atomic>
#include <csignal>
#include <mutex>

namespace epd {
namespace {

std::atomic<int> signal_request{0};
std::atomic<bool> stop_signalled{false};
std::atomic<bool> reason_given{false};
std::mutex reason_mutex;
std::string reason_text;

static_assert(std::atomic<int>::is_always_lock_free, "a signal handler may touch nothing else");

/// A terminal that closes sends several SIGHUP, and Slurm follows SIGUSR1 up with SIGTERM: warnings, never the last
/// word.
bool is_warning(int signal) { return signal == SIGHUP || signal == SIGUSR1; }

extern "C" void on_signal(int signal) {
  int none = 0;
  signal_request.compare_exchange_strong(none, signal);
  if (is_warning(signal) || !stop_signalled.exchange(true)) return;
  // Asked twice: whatever is going on is not worth waiting for.
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

std::string signal_text(int signal) {
  switch (signal) {
    case SIGINT:
      return "interrupted (SIGINT)";
    case SIGTERM:
      return "stopped by SIGTERM";
    case SIGHUP:
      return "stopped by SIGHUP";
    case SIGUSR1:
      return "stopped by SIGUSR1";
    default:
      return text("stopped by signal ", signal);
  }
}

}  // namespace

Interrupted::Interrupted(int signal) : Error(signal_text(signal)), signal_(is_warning(signal) ? SIGTERM : signal) {}

void catch_signals() {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGUSR1}) {
    struct sigaction before = {};
    sigaction(signal, nullptr, &before);
    if (signal == SIGHUP && before.sa_handler == SIG_IGN) continue;  // nohup
    struct sigaction action = {};
    action.sa_handler = on_signal;
    action.sa_flags = SA_RESTART;  // a write that was under way goes on; the request is noticed between two of them
    sigemptyset(&action.sa_mask);
    sigaction(signal, &action, nullptr);
  }
  std::signal(SIGXFSZ, SIG_IGN);  // beyond `ulimit -f` a write fails, which is reported, instead of ending the process
}

int pending_signal() { return signal_request; }

void request_stop(int signal) {
  int none = 0;
  signal_request.compare_exchange_strong(none, signal);
}

void request_stop(const std::string& reason) {
  const std::lock_guard lock(reason_mutex);
  if (reason_given) return;
  reason_text = reason;
  reason_given = true;
}

bool stop_requested() { return reason_given || signal_request != 0; }

void check_interrupt() {
  if (reason_given) {
    const std::lock_guard lock(reason_mutex);
    throw Error(reason_text);
  }
  if (const int signal = signal_request) throw Interrupted(signal);
}

void clear_stop_request() {
  const std::lock_guard lock(reason_mutex);
  reason_given = false;
  stop_signalled = false;
  signal_request = 0;
}

}  // namespace epd
