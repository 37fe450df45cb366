#pragma once

#include <c10/core/Device.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "epd/core/options.h"
#include "epd/distributed/process_group.h"

/// The command line of all programs:
///   - option names are written with underscores; dashes mean the same (--num-steps is --num_steps);
///   - booleans take True/False/true/false/1/0 (yes/no, on/off too) or stand alone: --afs, --afs True, --afs=True;
///   - --config FILE.json (or .toml) gives any option a value; the command line wins;
///   - wrong usage is UsageError: one line.
///
///     TrainRun run;
///     cli::Common common;
///     cli::Program program{"train", "Distil an EPD predictor", {{"", "", options_of(run).add(options_of(common))}}};
///     return run_main([&] {
///       if (!program.parse(argc, argv)) return;   // --help was printed
///       cli::apply(common);
///       cli::on_all_processes(common, [&](ProcessGroup& group, at::Device device) { ... });
///     });
namespace epd::cli {

/// What every program understands.
struct Common {
  std::string config;           // a settings file
  std::string device = "auto";  // auto, cpu, cuda or cuda:N
  int threads = 0;              // 0: what the machine and OMP_NUM_THREADS say
  bool verbose = false, quiet = false;
};
Options options_of(Common& common);

/// A program without subcommands is one command without a name.
struct Command {
  std::string name, description;
  Options options;
};

struct Program {
  std::string name, description;
  std::vector<Command> commands;

  /// Reads the command line, and the file that --config names, into the fields that the options describe. The command
  /// that was chosen; null when --help or --version was asked for and printed. Throws UsageError for anything that does
  /// not fit.
  Command* parse(int argc, const char* const* argv);
};

/// Sets the options that a settings file holds and nobody has given yet.
void read_settings(Options& options, const std::string& path);

/// Sets the log level, the environment of CUDA's libraries and, where given, Torch's number of threads.
void apply(const Common& common);

/// The device that --device names: the CPU, or any accelerator that LibTorch knows. `auto` is the accelerator of this
/// process where there is one, else the CPU; `cuda` is the GPU of index local_rank (modulo their number). Throws Error
/// where there is no such device, or cards that LibTorch cannot use, UsageError for other names.
at::Device choose_device(const Common& common, int local_rank);

/// Joins the processes of this job (ProcessGroup::from_environment) and runs the work on each, on the device that
/// --device names for it.
void on_all_processes(const Common& common, const std::function<void(ProcessGroup&, at::Device)>& work);

/// The device that a run would have, whether or not it is there: for --explain and --dry_run.
at::Device planned_device(const Common& common);

/// Work that needs no other process, done by the first one for all: --explain, --dry_run.
void on_root(const std::function<void()>& work);

}  // namespace epd::cli
