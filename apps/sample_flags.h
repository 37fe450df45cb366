#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "cli.h"
#include "epd/sampling/sample_options.h"

namespace epd::cli {

/// The command line of `sample`.
struct SampleFlags {
  SampleOptions options;
  Common common;
  std::string seeds = "0-63";
  std::string prompt_file, outdir, reference, metrics = "fid";
  bool explain = false;  // print the plan, draw nothing
  bool json = false;     // results on stdout as JSON
};

void add_flags(CLI::App& app, SampleFlags& flags);

/// The options as parsed, with what the command line gives as text read. Throws UsageError.
SampleOptions read_options(const CLI::App& app, const SampleFlags& flags);

}  // namespace epd::cli
