#pragma once

#include <chrono>
#include <cstdint>
#include <mutex>
#include <string>

namespace epd {

/// How far a long piece of work is, on stderr: on a terminal one line that is drawn again and again (share, rate,
/// time left), elsewhere a plain line now and then. Silent under --quiet (log level above info).
///
///     Progress progress("sampling", seeds.size(), "images", group.is_root());
///     progress.advance(batch);
class Progress {
 public:
  /// `shown` is false on every process but the root's.
  Progress(std::string what, std::int64_t total, std::string unit, bool shown = true);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// `count` more are done. Safe from several threads.
  void advance(std::int64_t count = 1);
  /// `count` were done before this run (a resumed one): they count for the share, not for the rate.
  void skip(std::int64_t count);
  /// A word behind the rate, such as the loss.
  void note(std::string note);
  /// Draws the last state and ends the line; nothing is drawn afterwards. The destructor does it too.
  void finish();

 private:
  using Clock = std::chrono::steady_clock;
  void draw(Clock::time_point now, bool last);
  std::string line(Clock::time_point now, bool last) const;

  const std::string what_, unit_;
  const std::int64_t total_;
  const bool terminal_;
  bool shown_;
  const Clock::time_point start_ = Clock::now();
  Clock::time_point drawn_;
  std::int64_t done_ = 0, skipped_ = 0;
  std::string note_;
  std::mutex mutex_;
};

/// "4 s", "3 min 20 s", "2 h 05 min".
std::string duration_text(double seconds);

}  // namespace epd
