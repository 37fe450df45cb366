#pragma once

#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

namespace epd {

/// What went wrong, for the user: one line that says what failed, on what, with which value. `main` prints it and
/// exits with exit_code(): 1 when the work failed, 2 when it was asked for wrongly.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
  virtual int exit_code() const { return 1; }
};

/// An option or a value that cannot be right, whatever the files hold. Exit code 2.
class UsageError : public Error {
 public:
  using Error::Error;
  int exit_code() const override { return 2; }
};

/// The parts written one after the other, as a stream would write them. Throws std::bad_alloc where memory is short: a
/// stream would keep that to itself and leave the rest out.
template <class... Parts>
std::string text(const Parts&... parts) {
  std::ostringstream stream;
  stream.exceptions(std::ios::badbit);
  (stream << ... << parts);
  return stream.str();
}

/// A text to be read word by word or line by line, which throws std::bad_alloc too, where another would just end.
inline std::istringstream stream_of(std::string words) {
  std::istringstream stream(std::move(words));
  stream.exceptions(std::ios::badbit);
  return stream;
}

/// The beginning of a long value, for messages.
inline std::string shown(std::string_view value) {
  constexpr std::size_t kShown = 60;
  std::string beginning(value.substr(0, kShown));
  if (value.size() > kShown) beginning.append("...");
  return beginning;
}

}  // namespace epd

/// Throws Error with the parts as its message unless the condition holds. For input; our own bugs are asserted.
#define EPD_REQUIRE(condition, ...)                                 \
  do {                                                              \
    if (!(condition)) throw ::epd::Error(::epd::text(__VA_ARGS__)); \
  } while (false)

/// EPD_ASSERT holds the program to its own rules: its message says that the program is at fault, not the user.
#define EPD_ASSERT(condition, ...) EPD_REQUIRE(condition, "this is a bug of the program: ", __VA_ARGS__)

/// The same for the user's options: throws UsageError.
#define EPD_REQUIRE_USAGE(condition, ...)                                \
  do {                                                                   \
    if (!(condition)) throw ::epd::UsageError(::epd::text(__VA_ARGS__)); \
  } while (false)
