#pragma once

#include <string>

#include "cli.h"
#include "epd/evaluation/run_fid.h"
#include "epd/images/prepare.h"

namespace epd::cli {

/// What the command line of `fid` says, before it is checked. Its subcommands share the fields; one of them runs.
struct FidFlags {
  Common common;
  PictureOptions pictures;
  PrepareOptions prepare;
  std::string path, reference, metrics = "fid", json, report, dest, resolution;
  bool save_features = false;
};

struct FidCommands {
  CLI::App *calc = nullptr, *ref = nullptr, *prepare = nullptr;
};

FidCommands add_flags(CLI::App& app, FidFlags& flags);

/// Throws UsageError for what cannot be meant; Error for a reference name whose file is not there.
CalcOptions read_calc(const FidFlags& flags);
RefOptions read_ref(const FidFlags& flags);
PrepareOptions read_prepare(const FidFlags& flags);

/// The file that --ref names: itself, or by a dataset's name the published statistics in the cache.
std::filesystem::path find_reference(const std::string& path_or_name);

}  // namespace epd::cli
