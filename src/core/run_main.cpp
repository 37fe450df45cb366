#include "epd/core/run_main.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <iostream>
#include <new>
#include <string_view>

#include "epd/core/interrupt.h"
#include "epd/core/log.h"
#include "epd/core/out_of_memory.h"
#include "epd/core/sha256.h"

#if defined(__GLIBC__)
#include <malloc.h>
#endif

namespace epd {
namespace {

constexpr const char* kOutOfMemory = "out of memory: try smaller --batch, --batch_gpu or --chunk";

std::string trimmed(std::string_view line) {
  const auto blank = " \t\r\n";
  const auto first = line.find_first_not_of(blank);
  if (first == line.npos) return {};
  return std::string(line.substr(first, line.find_last_not_of(blank) - first + 1));
}

std::string last_line(std::string_view lines) {
  const auto end = lines.find_last_not_of(" \t\r\n");
  if (end == lines.npos) return {};
  const auto begin = lines.find_last_of('\n', end);
  return trimmed(lines.substr(begin == lines.npos ? 0 : begin + 1, end + 1 - (begin == lines.npos ? 0 : begin + 1)));
}

/// "cannot create directories: Permission denied [/a/b]", as std::filesystem words it -> "cannot create directories
/// /a/b: Permission denied".
std::string file_system_words(std::string_view rest) {
  const auto colon = rest.find(": ");
  const auto bracket = rest.find(" [", colon == rest.npos ? 0 : colon);
  if (colon == rest.npos || bracket == rest.npos || !rest.ends_with(']')) return std::string(rest);
  std::string_view what = rest.substr(0, colon);
  const auto verb = what.rfind("cannot ");
  what = verb == what.npos ? std::string_view("use") : what.substr(verb + 7);
  std::string paths(rest.substr(bracket + 2, rest.size() - bracket - 3));
  if (const auto second = paths.find("] ["); second != paths.npos) paths.replace(second, 3, " and ");
  return text("cannot ", what, ' ', paths, ": ", rest.substr(colon + 2, bracket - colon - 2));
}

/// The texts of std::out_of_range, bad_optional_access and their like: they tell the user nothing.
bool is_a_logic_error(std::string_view line) {
  constexpr auto kBeginnings =
      std::to_array<std::string_view>({"basic_string", "std::", "vector::", "map::at",
                                       "array::", "deque::", "bad optional access", "bad_", "bad any_cast"});
  return std::ranges::any_of(kBeginnings, [&](auto beginning) { return line.starts_with(beginning); }) ||
         line.find("::_M_") != line.npos || line == "stoi" || line == "stod" || line == "stoul" || line == "stol";
}

/// A line of a library in the words of this program.
std::string in_plain_words(std::string line) {
  constexpr std::string_view kFileSystem = "filesystem error: ", kJson = "[json.exception.", kTorch = "c10::";
  if (line.starts_with(kFileSystem)) return file_system_words(std::string_view(line).substr(kFileSystem.size()));
  if (line.starts_with(kJson)) return "cannot use JSON: " + line.substr(std::min(line.find("] ") + 2, line.size()));
  if (is_a_logic_error(line)) return "this is a bug of the program; --verbose shows more";
  for (auto at = line.find(kTorch); at != line.npos; at = line.find(kTorch)) line.erase(at, kTorch.size());
  return line;
}

void report(const std::string& what) {
  const auto line = one_line(what);
  log::error(line);
  if (line != what) log::debug(what);
}

/// A standard stream that is closed would be the next file that is opened, and be written to. Writing to stdout fails
/// all the same: it is opened for reading.
void open_closed_streams() {
  for (const int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (::fcntl(stream, F_GETFD) >= 0 || errno != EBADF) continue;
    // The lowest free number is this stream's.
    [[maybe_unused]] const int opened = ::open("/dev/null", stream == STDOUT_FILENO ? O_RDONLY : O_RDWR);
  }
}

/// Why what was printed did not all arrive, as errno; 0 where it did.
int lost_output() {
  std::cout.flush();
  const bool lost_before = std::cout.fail() || std::ferror(stdout) != 0;
  errno = 0;
  if (std::fflush(stdout) != 0 || lost_before) {
    if (errno != 0) return errno;
    // An earlier write failed, whose errno is gone: what that was, another one is told.
    return ::write(STDOUT_FILENO, "\n", 1) < 0 ? errno : EIO;
  }
  // Network file systems report a full disk when a file is closed.
  const int copy = ::dup(STDOUT_FILENO);
  return copy >= 0 && ::close(copy) == 0 ? 0 : errno;
}

int exit_code_of_output() {
  const int error = lost_output();
  if (error == 0) return 0;
  if (error == EPIPE) return 128 + SIGPIPE;  // whoever read it has what it wanted: quietly, as other tools end
  report(text("cannot write to stdout: ", std::strerror(error)));
  return 1;
}

/// What cannot be caught, such as an exception that leaves a destructor: one line for it too. Nothing is allocated.
[[noreturn]] void on_terminate() {
  const char* what = "unknown error";
  try {
    if (const auto error = std::current_exception()) std::rethrow_exception(error);
  } catch (const std::bad_alloc&) {
    what = kOutOfMemory;
  } catch (const std::exception& e) {
    what = e.what();
  } catch (...) {
  }
  ::dprintf(STDERR_FILENO, "error: %.*s\n", static_cast<int>(std::strcspn(what, "\n")), what);
  std::_Exit(1);
}

}  // namespace

std::string printable(std::string_view text) {
  constexpr std::string_view kHex = "0123456789abcdef";
  std::string result;
  for (const char c : text) {
    const auto value = static_cast<unsigned char>(c);
    if (value >= 0x20 && value != 0x7f) {
      result += c;
    } else if (c == '\n' || c == '\t' || c == '\r') {
      result.append({'\\', c == '\n' ? 'n' : c == '\t' ? 't' : 'r'});
    } else {
      result.append({'\\', 'x', kHex[value >> 4], kHex[value & 15]});
    }
  }
  return result;
}

std::string one_line(const std::string& what) {
  std::string_view rest = what;
  // c10::Error: the message, then where it was raised and the C++ stack.
  if (const auto raised = rest.find("\nException raised from "); raised != rest.npos) rest = rest.substr(0, raised);
  // The TorchScript interpreter: a traceback with the error in its last line.
  if (rest.find("Traceback of TorchScript") != rest.npos) return in_plain_words(last_line(rest));
  const auto first = rest.find_first_not_of(" \t\r\n");
  if (first == rest.npos) return "unknown error";
  rest.remove_prefix(first);
  return in_plain_words(trimmed(rest.substr(0, rest.find('\n'))));
}

void keep_freed_memory() {
#if defined(__GLIBC__)
  // Setting one of these also ends glibc's own moving of the threshold, so each is named.
  constexpr int kNeverMap = 1 << 30;
  if (!std::getenv("MALLOC_MMAP_THRESHOLD_")) mallopt(M_MMAP_THRESHOLD, kNeverMap);
  if (!std::getenv("MALLOC_TRIM_THRESHOLD_")) mallopt(M_TRIM_THRESHOLD, kNeverMap);
  if (!std::getenv("MALLOC_TOP_PAD_")) mallopt(M_TOP_PAD, 64 << 20);
#endif
}

const char* version() { return EPD_VERSION; }

int run_main(const std::function<void()>& work) {
  std::set_terminate(on_terminate);
  catch_signals();
  open_closed_streams();
  // A write fails instead. Unlike SIG_IGN, this is not inherited by programs that are started.
  std::signal(SIGPIPE, [](int) {});
  try {
    sha256_hex("");  // OpenSSL sets itself up at its first use, and crashes where it finds no memory then
    work();
    return exit_code_of_output();
  } catch (const AlreadyReported& e) {
    log::debug(e.what());
    return e.exit_code();
  } catch (const Error& e) {
    report(printable(e.what()));
    return e.exit_code();
  } catch (const std::exception& e) {
    const auto out = out_of_memory(e);
    report(out ? out->what() : e.what());
  } catch (...) {
    report("unknown error");
  }
  return 1;
}

}  // namespace epd
