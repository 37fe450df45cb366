#pragma once

#include <filesystem>
#include <string>
#include <vector>

/// Experiments: folders NNNNN-NAME, which users call by their number (`2`, `00002`). Nothing of another name counts.
namespace epd {

/// A new hidden folder in `parent`, to prepare a run in and lock: a process that is killed leaves no half-made run.
/// What such processes left is removed. Throws Error where it cannot.
std::filesystem::path new_run_dir(const std::filesystem::path& parent);

/// Makes the prepared folder, in which there are files, its neighbour NNNNN-`name`, with the lowest unused number of
/// five digits: two runs started at once get two numbers. Throws Error where it cannot.
std::filesystem::path name_run_dir(std::filesystem::path prepared, const std::string& name);

/// The run folder that the user means: a folder, or its number in `parent`. Throws Error when there is none, or more
/// than one.
std::filesystem::path find_run_dir(const std::string& text, const std::filesystem::path& parent);

/// The predictor file that the user means: a file, a folder (its predictor.json), or an experiment number, looked up in
/// the first of `exp_dirs` that has it, or PROJECT/DATASET-NFE of their zoo. Digits alone are always a number; ./2
/// names a path. Throws Error when there is none, or more than one.
std::filesystem::path find_predictor(const std::string& text, const std::vector<std::filesystem::path>& exp_dirs);

}  // namespace epd
