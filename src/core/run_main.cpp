#include "epd/core/run_main.h"

#include <cstdlib>
#include <new>
#include <string_view>

#include "epd/core/interrupt.h"
#include "epd/core/log.h"

#if defined(__GLIBC__)
#include <malloc.h>
#endif

namespace epd {
namespace {

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

void report(const std::string& what) {
  log::error(one_line(what));
  if (what.find('\n') != what.npos) log::debug(what);
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
  if (rest.find("Traceback of TorchScript") != rest.npos) return last_line(rest);
  const auto first = rest.find_first_not_of(" \t\r\n");
  if (first == rest.npos) return "unknown error";
  rest.remove_prefix(first);
  return trimmed(rest.substr(0, rest.find('\n')));
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
  catch_signals();
  try {
    work();
    return 0;
  } catch (const AlreadyReported& e) {
    log::debug(e.what());
    return e.exit_code();
  } catch (const Error& e) {
    report(printable(e.what()));
    return e.exit_code();
  } catch (const std::bad_alloc&) {
    report("out of memory: try smaller --batch, --batch_gpu or --chunk");
  } catch (const std::exception& e) {
    report(e.what());
  } catch (...) {
    report("unknown error");
  }
  return 1;
}

}  // namespace epd
