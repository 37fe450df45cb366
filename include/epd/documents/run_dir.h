#pragma once

#include <filesystem>
#include <string>

namespace epd {

/// Makes `parent`/NNNNN-`name` with the lowest unused five-digit number, by an atomic mkdir: two runs started at once
/// get two folders. Throws Error where it cannot.
std::filesystem::path make_run_dir(const std::filesystem::path& parent, const std::string& name);

/// The run folder that the user means: a folder, or its number in `parent`. Throws Error when there is none.
std::filesystem::path find_run_dir(const std::string& text, const std::filesystem::path& parent);

}  // namespace epd
