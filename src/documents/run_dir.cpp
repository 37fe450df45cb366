#include "epd/documents/run_dir.h"

#include <algorithm>
#include <cctype>
#include <chrono>
#include <iomanip>
#include <set>
#include <system_error>

#include "epd/core/error.h"
#include "epd/files/file_lock.h"
#include "epd/files/outputs.h"

namespace epd {
namespace {

namespace fs = std::filesystem;

bool is_digits(const std::string& s) {
  return !s.empty() && std::all_of(s.begin(), s.end(), [](unsigned char c) { return std::isdigit(c) != 0; });
}

/// The number of a run folder's name, or -1.
int run_number(const std::string& name) {
  const bool is_run = name.size() == 5 || (name.size() > 6 && name[5] == '-');
  return is_run && is_digits(name.substr(0, 5)) ? std::stoi(name.substr(0, 5)) : -1;
}

std::string five_digits(int number) { return text(std::setw(5), std::setfill('0'), number); }

/// The run folder of this number in `parent`; empty where there is none. Throws Error for two.
fs::path find_number(const std::string& digits, const fs::path& parent) {
  std::vector<fs::path> found;
  std::error_code error;
  for (fs::directory_iterator entry(parent, error), end; !error && entry != end; entry.increment(error)) {
    std::error_code unreadable;
    const auto name = entry->path().filename().string();
    // A process killed while it named its run leaves the number alone, and the run's first state.
    const bool is_run = name.size() > 5 || fs::exists(entry->path() / "state.bin", unreadable);
    if (run_number(name) == std::stoi(digits) && is_run && entry->is_directory(unreadable)) {
      found.push_back(entry->path());
    }
  }
  EPD_REQUIRE(!error, "cannot list ", parent.string(), ": ", error.message());
  std::sort(found.begin(), found.end());
  EPD_REQUIRE(found.size() <= 1, "experiment ", digits, " is ambiguous: ", found.front().string(), " and ",
              found.back().string(), "; give the folder's path");
  return found.empty() ? fs::path() : found[0];
}

fs::path predictor_in(const fs::path& folder) {
  const auto path = folder / "predictor.json";
  EPD_REQUIRE(fs::is_regular_file(path), "no predictor.json in ", folder.string(),
              "; a run in progress has predictor-<kimg>.json files, whose path can be given instead");
  return path;
}

fs::path find_experiment(const std::string& digits, const std::vector<fs::path>& exp_dirs) {
  EPD_REQUIRE(digits.size() <= 9, "experiment ", digits, ": a number of at most 9 digits is expected");
  std::string searched;
  for (const auto& exp_dir : exp_dirs) {
    if (!fs::is_directory(exp_dir)) continue;
    if (const auto folder = find_number(digits, exp_dir); !folder.empty()) return predictor_in(folder);
    searched += (searched.empty() ? "" : " and ") + exp_dir.string();
  }
  EPD_REQUIRE(!searched.empty(), "experiment ", digits, ": there is no folder ", exp_dirs.front().string(),
              "; run from the folder that contains it, or give the predictor's path");
  throw Error(text("no experiment ", digits, " in ", searched));
}

/// The numbers of runs that have a name.
std::set<int> used_numbers(const fs::path& parent) {
  std::set<int> used;
  for (const auto& entry : fs::directory_iterator(parent)) {
    if (const auto name = entry.path().filename().string(); name.size() > 5) used.insert(run_number(name));
  }
  return used;
}

/// Whether the process that prepared a run here was killed. One that has no lock yet may be about to take it.
bool is_abandoned(const fs::path& folder) {
  std::error_code gone;
  if (fs::exists(folder / ".lock", gone)) return FileLock(folder / ".lock").acquire();
  return fs::last_write_time(folder, gone) < fs::file_time_type::clock::now() - std::chrono::minutes(1) && !gone;
}

}  // namespace

fs::path new_run_dir(const fs::path& parent) {
  create_folder(parent, "outdir");
  std::error_code error;
  std::vector<fs::path> abandoned;
  for (const auto& entry : fs::directory_iterator(parent, error)) {
    const auto& path = entry.path();
    if (is_temporary_name(path.filename().string()) && entry.is_directory(error) && is_abandoned(path)) {
      abandoned.push_back(path);
    }
  }
  for (const auto& path : abandoned) fs::remove_all(path, error);
  const auto folder = temporary_path(parent);
  fs::create_directory(folder, error);
  EPD_REQUIRE(!error, "outdir: cannot make a folder in ", parent.string(), ": ", error.message());
  return folder;
}

fs::path name_run_dir(fs::path prepared, const std::string& name) {
  const auto parent = prepared.parent_path();
  std::error_code error;
  for (int number = 0; number < 100000; ++number) {
    if (used_numbers(parent).contains(number)) continue;
    // The number is what must be new, whatever stands behind it: no folder with files in it is replaced, and whoever
    // has the folder NNNNN may give it its name.
    const fs::path claim = parent / five_digits(number);
    fs::rename(prepared, claim, error);
    if (error && fs::exists(claim)) continue;
    EPD_REQUIRE(!error, "outdir: cannot make the folder ", claim.string(), ": ", error.message());
    prepared = claim;
    if (used_numbers(parent).contains(number)) continue;
    const fs::path folder = parent / (five_digits(number) + "-" + name);
    fs::rename(claim, folder, error);
    if (!error) return folder;
    const auto reason = error.message();
    fs::remove_all(claim, error);
    throw Error(text("outdir: cannot make the folder ", folder.string(), ": ", reason));
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
  const auto folder = find_number(wanted, parent);
  EPD_REQUIRE(!folder.empty(), "resume: no run number ", wanted, " in ", parent.string());
  return folder;
}

fs::path find_predictor(const std::string& wanted, const std::vector<fs::path>& exp_dirs) {
  EPD_REQUIRE(!wanted.empty(), "predictor_path: expected a file, a folder or an experiment number");
  if (is_digits(wanted)) return find_experiment(wanted, exp_dirs);
  std::error_code error;
  if (fs::is_directory(wanted, error)) return predictor_in(wanted);
  if (fs::exists(wanted, error)) return wanted;
  for (const auto& exp_dir : exp_dirs) {
    if (auto table = exp_dir / "zoo" / (wanted + ".json"); fs::is_regular_file(table, error)) return table;
  }
  throw Error(text("no predictor ", wanted, ": no such file or folder, and no table of that name in exp/zoo"));
}

}  // namespace epd
