#pragma once

#include <filesystem>
#include <string>
#include <vector>

/// What is missing in the cache is made where it is first needed, by the script that started the program.
namespace epd {

/// Runs `launch.sh ARGUMENTS` (EPD_LAUNCHER names the script), which should make `file`; its output goes to stderr.
/// Does nothing where the file exists, or where the program was not started by the script. Processes that miss
/// something in the same cache wait for each other. Throws as check_interrupt() does, having ended what it ran.
void make_if_missing(const std::filesystem::path& file, const std::vector<std::string>& arguments);

}  // namespace epd
