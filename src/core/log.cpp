#include "epd/core/log.h"

#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <atomic>
#include <cstdio>

#include "epd/core/run_main.h"

namespace epd::log {
namespace {

spdlog::logger& logger() {
  static const auto instance = [] {
    auto made = std::make_shared<spdlog::logger>("epd", std::make_shared<spdlog::sinks::stderr_color_sink_mt>());
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
std::atomic<bool> line_stands{false};

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

void unfinished_line(bool stands) { line_stands = stands; }

void write(Level level, const std::string& message) {
  if (line_stands.exchange(false)) std::fputs("\r\033[K", stderr);
  logger().log(to_spdlog(level), level == Level::kDebug ? message : printable(message));
}

}  // namespace epd::log
