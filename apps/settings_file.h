#pragma once

#include <string>
#include <utility>
#include <vector>

namespace epd::cli {

/// Options by name with their values, in the file's order.
using Settings = std::vector<std::pair<std::string, std::vector<std::string>>>;

/// The settings of a TOML file (*.toml) or of a JSON object, whose nulls are left out. Throws UsageError where the file
/// cannot be read or holds anything but text, numbers, booleans and lists of them.
Settings read_settings(const std::string& path);

}  // namespace epd::cli
