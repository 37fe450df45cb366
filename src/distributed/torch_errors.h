#pragma once

namespace epd {

/// Inside a catch block: throws the current exception on, as it is where it is an Error of ours, otherwise as an Error
/// whose message says in one line what Torch (or the standard library) said at length.
[[noreturn]] void rethrow_as_error();

}  // namespace epd
