#pragma once

#include <string>

#include "epd/core/error.h"

/// Stopping in good order. A signal, or a thread that watches the other processes, leaves a request; the work looks at
/// it wherever it can stop cleanly, and stops by an exception like any other.
namespace epd {

/// SIGINT, or SIGTERM, SIGHUP or SIGUSR1 arrived (the latter two count as SIGTERM). Exit code 130 or 143.
class Interrupted : public Error {
 public:
  explicit Interrupted(int signal);
  int signal() const { return signal_; }
  int exit_code() const override { return 128 + signal_; }

 private:
  int signal_;
};

/// From here on the first SIGINT or SIGTERM only leaves a request; a second one ends the process at once. SIGHUP
/// (unless it is ignored, as by nohup) and SIGUSR1 (Slurm's warning before its time limit) only ever leave a request.
void catch_signals();

/// The signal that was asked to be noticed, or 0.
int pending_signal();

/// As if this signal had arrived: another process of the job got it.
void request_stop(int signal);

/// The next check_interrupt() throws Error(reason): another process of the job failed. The first reason stays.
void request_stop(const std::string& reason);

/// Whether check_interrupt() would throw.
bool stop_requested();

/// Throws Interrupted or the requested Error if something asked this process to stop. Cheap; safe from any thread.
void check_interrupt();

/// Forgets every request. For tests.
void clear_stop_request();

}  // namespace epd
