#pragma once

#include <c10/core/Device.h>

#include <CLI/CLI.hpp>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "epd/core/error.h"
#include "epd/core/names.h"
#include "epd/distributed/process_group.h"
#include "epd/solver/direction.h"

/// The command line of all programs: CLI11 with the rules of the house.
///   - option names are written with underscores; dashes mean the same (--num-steps is --num_steps);
///   - booleans take True/False/true/false/1/0 (yes/no, on/off too) or stand alone: --afs, --afs True, --afs=True;
///   - --config FILE.json (or .toml) gives any option a value; the command line wins;
///   - wrong usage is UsageError: one line.
///
///     auto app = cli::make_app("train", "Distil an EPD predictor");
///     cli::Common common;
///     cli::add_common(*app, common);
///     app->add_option("--num_steps", options.num_steps, "timestamps N of the grid");   // help shows the default
///     cli::add_bool(*app, "--afs", options.afs, "replace the first evaluation by x / sqrt(1 + t^2)");
///     cli::add_choice(*app, "--schedule_type", options.schedule.kind, kScheduleNames, "where the timestamps lie");
///     return run_main([&] {
///       if (!cli::parse(*app, argc, argv)) return;   // --help was printed
///       cli::apply(common);
///       const auto group = cli::join_job(common);
///       const at::Device device = cli::choose_device(common, group->local_rank());
///       ...
///     });
namespace epd::cli {

/// What every program understands.
struct Common {
  bool verbose = false, quiet = false;
  std::string device = "auto";  // auto, cpu, cuda or cuda:N
  int threads = 0;              // 0: what the machine and OMP_NUM_THREADS say
};

/// A program: defaults stand in the help, the last value of an option given twice counts, --version is there.
std::unique_ptr<CLI::App> make_app(const std::string& name, const std::string& description);

/// --config, --verbose, --quiet, --device and --threads, for a program or for one of its subcommands.
void add_common(CLI::App& command, Common& common);

/// A boolean option. `names` as CLI11 takes them ("--dry_run,-n").
CLI::Option* add_bool(CLI::App& command, const std::string& names, bool& value, const std::string& help);

/// A boolean option that may be left unset; `otherwise` says in the help what that means.
CLI::Option* add_bool(CLI::App& command, const std::string& names, std::optional<bool>& value, const std::string& help,
                      const std::string& otherwise);

/// --afs: a boolean option that takes `mean` too. The second may be left unset.
CLI::Option* add_afs(CLI::App& command, Afs& value);
CLI::Option* add_afs(CLI::App& command, std::optional<Afs>& value, const std::string& otherwise);

/// One of a closed set, by name. The help lists the names; another value is a usage error that lists them too.
template <class Enum, std::size_t N>
CLI::Option* add_choice(CLI::App& command, const std::string& names, Enum& value, const NameTable<Enum, N>& table,
                        const std::string& help) {
  const auto first_name = names.substr(0, names.find(','));
  auto* option = command.add_option_function<std::string>(
      names, [&value, &table, first_name](const std::string& name) { value = value_of(table, name, first_name); },
      help + " (" + all_names(table) + ")");
  return option->default_str(name_of(table, value))->type_name("NAME");
}

/// The same, where it may be left unset; `otherwise` says in the help what that means.
template <class Enum, std::size_t N>
CLI::Option* add_choice(CLI::App& command, const std::string& names, std::optional<Enum>& value,
                        const NameTable<Enum, N>& table, const std::string& help, const std::string& otherwise) {
  const auto first_name = names.substr(0, names.find(','));
  auto* option = command.add_option_function<std::string>(
      names, [&value, &table, first_name](const std::string& name) { value = value_of(table, name, first_name); },
      text(help, " (", all_names(table), "; unset: ", otherwise, ")"));
  return option->default_str("")->type_name("NAME");
}

/// A value that may be left unset; `otherwise` says in the help what that means.
template <class T>
CLI::Option* add_optional(CLI::App& command, const std::string& names, std::optional<T>& value, const std::string& help,
                          const std::string& otherwise) {
  return command.add_option(names, value, text(help, " (unset: ", otherwise, ")"))->default_str("");
}

/// Reads the command line, and the file that --config names. False when --help or --version was asked for and printed.
/// Throws UsageError for anything that does not fit.
bool parse(CLI::App& app, int argc, const char* const* argv);

/// Sets the log level and, where given, Torch's number of threads.
void apply(const Common& common);

/// The device that --device names. `auto` is the GPU of this process where there is one, else the CPU; `cuda` is the
/// GPU of index local_rank (modulo their number). Throws Error where there is no such device, UsageError for other
/// names.
at::Device choose_device(const Common& common, int local_rank);

/// The processes of this job, joined (ProcessGroup::from_environment), for the device that --device names.
std::shared_ptr<ProcessGroup> join_job(const Common& common);

/// Work that needs no other process, done by the first one for all: --explain, --dry_run.
void on_root(const std::function<void()>& work);

/// The options of the command and what they really were, defaults included: for the JSON beside the output.
nlohmann::ordered_json used_options(const CLI::App& command);

}  // namespace epd::cli
