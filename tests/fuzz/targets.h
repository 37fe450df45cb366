#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace epd {

/// What a reader of files makes of any bytes, as text to compare. Throws Error where it refuses them.
using Target = std::string (*)(std::string_view);
extern const std::map<std::string, Target> kTargets;

/// What the target reads; nothing where it refuses.
std::optional<std::string> read(const std::string& target, std::string_view bytes);

}  // namespace epd
