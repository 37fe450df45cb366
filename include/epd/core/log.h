#pragma once

#include <string>

#include "epd/core/error.h"

/// Logging to stderr, behind a few functions so that one source file alone includes spdlog.
namespace epd::log {

enum class Level { kDebug, kInfo, kWarning, kError, kOff };

void set_level(Level level);
Level level();
/// Copies everything that is logged to this file as well (append), for a run's log.txt. Where that fails later, one
/// warning says so.
void also_to_file(const std::string& path);

void write(Level level, const std::string& message);
/// Whether stderr is a terminal on which a line can be drawn again: not under TERM=dumb.
bool can_redraw();
/// Draws a line over the last unfinished one (a progress bar). The next message takes the place of an unfinished line.
void draw_line(const std::string& line, bool finished);

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
