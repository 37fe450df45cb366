#pragma once

#include <filesystem>
#include <optional>
#include <string_view>

#include "epd/core/options.h"

namespace epd {

/// Throws UsageError where an option that writes names what another option reads or writes, by whatever spelling or
/// link; where it would replace a file in a folder that is read; or where a folder that is written holds a file that is
/// read and that the run would replace. What names no existing file (a dataset, a number) is not looked at.
void require_separate(const Options& options);

/// Makes the folder and those above it. Throws Error "OPTION: cannot create FOLDER: reason".
void create_folder(const std::filesystem::path& folder, std::string_view option);

/// A model, image, dataset or training run in the folder, with `below` also in one of its own that no sampling run
/// made: images and runs do not go beside them. Nothing where there is none.
std::optional<std::filesystem::path> find_data(const std::filesystem::path& folder, bool below);

}  // namespace epd
