#pragma once

#include <string>

#include "epd/core/error.h"

/// Logging to stderr, behind a few functions so that one source file alone includes spdlog.
namespace epd::log {

enum class Level { kDebug, kInfo, kWarning, kError, kOff };

void set_level(Level level);
Level level();
/// Copies everything that is logged to this file as well (append), for a run's log.txt.
void also_to_file(const std::string& path);

void write(Level level, const std::string& message);
/// An unfinished line (a progress bar) stands on the terminal: the next message takes its place.
void unfinished_line(bool stands);

template <class... Parts>
void debug(const Parts&... parts) {
  if (level() <= Level::kDebug) write(Level::kDebug, text(parts...));
}
template <class... Parts>
void info(const Parts&... parts) {
  if (level() <= Level::kInfo) write(Level::kInfo, text(parts...));
}
template <class... Parts>
void warning(const Parts&... parts) {
  if (level() <= Level::kWarning) write(Level::kWarning, text(parts...));
}
template <class... Parts>
void error(const Parts&... parts) {
  if (level() <= Level::kError) write(Level::kError, text(parts...));
}

}  // namespace epd::log
