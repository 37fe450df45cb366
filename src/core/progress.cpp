#include "epd/core/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <iomanip>

#include "epd/core/log.h"

namespace epd {
namespace {

constexpr auto kTerminalInterval = std::chrono::milliseconds(100);
constexpr auto kPlainInterval = std::chrono::seconds(20);
constexpr int kBarWidth = 24;

std::size_t terminal_width() {
  winsize size{};
  const bool known = ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  return known ? size.ws_col : 80;
}

double seconds_between(std::chrono::steady_clock::time_point from, std::chrono::steady_clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

/// Three digits that count: 0.123, 4.56, 78.9, 1234.
std::string three_digits(double value) {
  return text(std::fixed, std::setprecision(value < 1 ? 3 : value < 10 ? 2 : value < 100 ? 1 : 0), value);
}

std::string bar(double share) {
  const int full = static_cast<int>(share * kBarWidth);
  return text("[", std::string(full, '#'), std::string(kBarWidth - full, '-'), "]");
}

}  // namespace

std::string duration_text(double seconds) {
  const auto total = static_cast<std::int64_t>(seconds + 0.5);
  const auto two_digits = [](std::int64_t value) { return text(value < 10 ? "0" : "", value); };
  if (total < 60) return text(total, " s");
  if (total < 3600) return text(total / 60, " min ", two_digits(total % 60), " s");
  return text(total / 3600, " h ", two_digits(total % 3600 / 60), " min");
}

Progress::Progress(std::string what, std::int64_t total, std::string unit, bool shown)
    : what_(std::move(what)),
      unit_(std::move(unit)),
      total_(total),
      terminal_(log::can_redraw()),
      shown_(shown && log::level() <= log::Level::kInfo),
      drawn_(start_) {}

Progress::~Progress() { finish(); }

void Progress::advance(std::int64_t count) {
  const std::lock_guard lock(mutex_);
  done_ += count;
  const auto now = Clock::now();
  const Clock::duration interval = terminal_ ? Clock::duration(kTerminalInterval) : Clock::duration(kPlainInterval);
  // The last state is drawn by finish() alone.
  if (now - drawn_ >= interval && done_ < total_) draw(now, false);
}

void Progress::skip(std::int64_t count) {
  const std::lock_guard lock(mutex_);
  done_ += count;
  skipped_ += count;
}

void Progress::note(std::string note) {
  const std::lock_guard lock(mutex_);
  note_ = std::move(note);
}

void Progress::finish() {
  const std::lock_guard lock(mutex_);
  draw(Clock::now(), true);
  shown_ = false;
}

void Progress::draw(Clock::time_point now, bool last) {
  if (!shown_) return;
  drawn_ = now;
  if (terminal_) {
    log::draw_line(line(now, last).substr(0, terminal_width() - 1), last);
  } else {
    log::info(line(now, last));
  }
}

std::string Progress::line(Clock::time_point now, bool last) const {
  const double elapsed = seconds_between(start_, now);
  const double rate = elapsed > 0 ? static_cast<double>(done_ - skipped_) / elapsed : 0;
  const double share = total_ > 0 ? std::clamp(static_cast<double>(done_) / static_cast<double>(total_), 0.0, 1.0) : 1;
  std::string out = text(what_, ": ", terminal_ ? bar(share) + ' ' : "", done_, '/', total_, ' ', unit_);
  if (rate > 0) out += text(", ", three_digits(rate), ' ', unit_, "/s");
  if (last) {
    out += ", " + duration_text(elapsed);
  } else if (rate > 0) {
    out += ", " + duration_text(static_cast<double>(total_ - done_) / rate) + " left";
  }
  return note_.empty() ? out : out + ", " + note_;
}

}  // namespace epd
