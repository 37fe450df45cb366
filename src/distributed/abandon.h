#pragma once

namespace epd {

/// From here on exit() ends the process before static destructors run: a thread that was left behind may still hang in
/// Torch's network code.
void skip_static_destructors();

}  // namespace epd
