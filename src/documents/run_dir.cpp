#include "epd/documents/run_dir.h"

#include <algorithm>
#include <cctype>
#include <iomanip>
#include <set>
#include <sstream>
#include <system_error>

#include "epd/core/error.h"

namespace epd {
namespace {

namespace fs = std::filesystem;

bool is_digits(const std::string& s) {
  return !s.empty() && std::all_of(s.begin(), s.end(), [](unsigned char c) { return std::isdigit(c) != 0; });
}

/// The number of a run folder's name, or -1.
int run_number(const std::string& name) {
  return name.size() > 6 && name[5] == '-' && is_digits(name.substr(0, 5)) ? std::stoi(name.substr(0, 5)) : -1;
}

std::string five_digits(int number) {
  std::ostringstream digits;
  digits << std::setw(5) << std::setfill('0') << number;
  return digits.str();
}

std::set<int> used_numbers(const fs::path& parent) {
  std::set<int> used;
  for (const auto& entry : fs::directory_iterator(parent)) used.insert(run_number(entry.path().filename().string()));
  return used;
}

}  // namespace

fs::path make_run_dir(const fs::path& parent, const std::string& name) {
  std::error_code error;
  fs::create_directories(parent, error);
  EPD_REQUIRE(!error, "outdir: cannot make the folder ", parent.string(), ": ", error.message());
  for (int number = 0; number < 100000; ++number) {
    if (used_numbers(parent).contains(number)) continue;
    // The number is what must be new, whatever stands behind it: whoever makes the folder NNNNN may give it its name.
    const fs::path claim = parent / five_digits(number);
    const bool claimed = fs::create_directory(claim, error);
    EPD_REQUIRE(!error, "outdir: cannot make the folder ", claim.string(), ": ", error.message());
    if (!claimed) continue;
    if (used_numbers(parent).contains(number)) {
      fs::remove(claim);
      continue;
    }
    const fs::path folder = parent / (five_digits(number) + "-" + name);
    fs::rename(claim, folder, error);
    if (!error) return folder;
    fs::remove(claim);
    throw Error(text("outdir: cannot make the folder ", folder.string(), ": ", error.message()));
  }
  throw Error(text("outdir: all numbers in ", parent.string(), " are used"));
}

fs::path find_run_dir(const std::string& wanted, const fs::path& parent) {
  if (!is_digits(wanted)) {
    EPD_REQUIRE(fs::is_directory(wanted), "resume: no run folder ", wanted);
    return wanted;
  }
  EPD_REQUIRE(wanted.size() <= 5 && fs::is_directory(parent), "resume: no run number ", wanted, " in ",
              parent.string());
  for (const auto& entry : fs::directory_iterator(parent)) {
    if (run_number(entry.path().filename().string()) == std::stoi(wanted)) return entry.path();
  }
  throw Error(text("resume: no run number ", wanted, " in ", parent.string()));
}

}  // namespace epd
