#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "epd/core/error.h"

namespace epd {

/// The reason was reported by another process of the job: run_main exits with this code and adds no line of its own.
class AlreadyReported : public Error {
 public:
  AlreadyReported(const std::string& reason, int exit_code) : Error(reason), exit_code_(exit_code) {}
  int exit_code() const override { return exit_code_; }

 private:
  int exit_code_;
};

/// Runs the work of `main` and returns the exit code: 0 done, 1 failed, 2 wrong usage, 130 (SIGINT) or 143 (SIGTERM,
/// SIGHUP, SIGUSR1) after a signal.
/// Output that could not be written (a full disk, a closed stdout) is a failure; a reader that is gone ends the program
/// quietly, with 141.
/// Whatever it throws becomes one line on stderr; the whole text (Torch's backtraces too) only at log level debug.
/// Signals are caught from here on (interrupt.h).
///
///     int main(int argc, char** argv) {
///       return epd::run_main([&] { ... });
///     }
int run_main(const std::function<void()>& work);

/// The one line of an exception's text that says what failed, in plain words: no C++ backtrace, of a TorchScript
/// traceback the error at its end, no names of the libraries' exceptions.
std::string one_line(const std::string& what);

/// The text on one line: control characters, which names of files may hold, as \n, \t or \x1b.
std::string printable(std::string_view text);

/// Tells the C library's allocator to keep big blocks that were freed instead of handing them back to the kernel.
/// A network allocates and frees the same large activations at every call; by default each of them is mapped, zeroed
/// page by page and unmapped again. Call it once, at the start of `main`. MALLOC_* variables of the user win.
void keep_freed_memory();

/// The version of the product, such as "0.1.0".
const char* version();

}  // namespace epd
