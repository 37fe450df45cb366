#include "epd/core/log.h"

#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <string_view>

#include "epd/core/run_main.h"

namespace epd::log {
namespace {

/// Of spdlog: a message could not be written, to log.txt that is (stderr's failures go unnoticed).
void on_failure(const std::string& what) {
  static std::atomic<bool> said{false};
  if (!said.exchange(true)) std::fprintf(stderr, "warning: cannot write the log: %s\n", what.c_str());
}

bool wants_colour() {
  const char* const no_colour = std::getenv("NO_COLOR");
  return can_redraw() && (no_colour == nullptr || *no_colour == '\0');
}

spdlog::logger& logger() {
  static const auto instance = [] {
    auto sink = std::make_shared<spdlog::sinks::stderr_color_sink_mt>(wants_colour() ? spdlog::color_mode::automatic
                                                                                     : spdlog::color_mode::never);
    auto made = std::make_shared<spdlog::logger>("epd", std::move(sink));
    made->set_error_handler(on_failure);
    made->set_pattern("%^%l%$: %v");
    made->set_level(spdlog::level::info);
    made->flush_on(spdlog::level::info);
    return made;
  }();
  return *instance;
}

spdlog::level::level_enum to_spdlog(Level level) {
  switch (level) {
    case Level::kDebug:
      return spdlog::level::debug;
    case Level::kInfo:
      return spdlog::level::info;
    case Level::kWarning:
      return spdlog::level::warn;
    case Level::kError:
      return spdlog::level::err;
    case Level::kOff:
      return spdlog::level::off;
  }
  return spdlog::level::off;
}

Level current_level = Level::kInfo;
std::mutex line_mutex;
std::size_t line_length = 0;  // of the unfinished line

/// Back to the start of the line, over blanks: no terminal needs an escape sequence for that.
void erase_line() {
  if (line_length > 0) std::fprintf(stderr, "\r%s\r", std::string(line_length, ' ').c_str());
  line_length = 0;
}

}  // namespace

void set_level(Level level) {
  current_level = level;
  logger().set_level(to_spdlog(level));
}

Level level() { return current_level; }

void also_to_file(const std::string& path) {
  try {
    auto sink = std::make_shared<spdlog::sinks::basic_file_sink_mt>(path);
    sink->set_pattern("%Y-%m-%d %H:%M:%S %l: %v");
    logger().sinks().push_back(std::move(sink));
  } catch (const spdlog::spdlog_ex& e) {
    throw Error(text("cannot write the log ", path, ": ", e.what()));
  }
}

bool can_redraw() {
  const char* const terminal = std::getenv("TERM");
  return isatty(STDERR_FILENO) == 1 && terminal != nullptr && *terminal != '\0' && std::string_view(terminal) != "dumb";
}

void draw_line(const std::string& line, bool finished) {
  const std::lock_guard lock(line_mutex);
  const std::string blanks(line.size() < line_length ? line_length - line.size() : 0, ' ');
  std::fprintf(stderr, "\r%s%s%s", line.c_str(), blanks.c_str(), finished ? "\n" : "");
  std::fflush(stderr);
  line_length = finished ? 0 : line.size();
}

void write(Level level, const std::string& message) {
  const std::lock_guard lock(line_mutex);
  erase_line();
  logger().log(to_spdlog(level), level == Level::kDebug ? message : printable(message));
}

}  // namespace epd::log
