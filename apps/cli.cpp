#include "cli.h"

#include <ATen/DeviceAccelerator.h>
#include <ATen/Parallel.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <iostream>

#include "epd/core/log.h"
#include "epd/core/run_main.h"
#include "epd/denoiser/device.h"
#include "epd/distributed/environment.h"
#include "epd/files/atomic_file.h"
#include "epd/files/json.h"
#include "epd/files/options_json.h"
#include "epd/files/outputs.h"

namespace epd::cli {
namespace {

/// "--num-steps=3-4" -> "--num_steps=3-4". Other tokens stay as they are.
std::string with_underscores(std::string token) {
  if (!token.starts_with("--")) return token;
  const auto end = std::min(token.find('='), token.size());
  std::replace(token.begin() + 2, token.begin() + static_cast<std::ptrdiff_t>(end), '-', '_');
  return token;
}

/// The first word that no option takes: "unknown option --sovler".
std::string unknown_word(const CLI::App& app) {
  const auto words = app.remaining(/*recurse=*/true);
  const auto option = std::ranges::find_if(words, [](const auto& word) { return word.size() > 1 && word[0] == '-'; });
  if (option != words.end()) return "unknown option " + shown(option->substr(0, option->find('=')));
  return words.empty() ? "a word too many" : "unknown argument '" + shown(words.front()) + "'";
}

std::string on_one_line(std::string message) {
  while (!message.empty() && std::isspace(static_cast<unsigned char>(message.back()))) message.pop_back();
  std::ranges::replace(message, '\n', ' ');
  return message;
}

std::string flags_of(const Option& option) {
  std::string flags = "--" + option.name;
  for (const auto& alias : option.aliases) flags += (alias.size() == 1 ? ",-" : ",--") + alias;
  return flags;
}

/// "INT=4": the type and the default, as the help shows them.
std::string type_and_default(const Option& option) {
  std::string result = option.info.type;
  const auto words = option.get();
  for (std::size_t i = 0; i < words.size(); ++i) result += (i == 0 ? "=" : " ") + words[i];
  if (option.is_list) result += " ...";
  return option.info.required ? result + " REQUIRED" : result;
}

void set_from_command_line(Option& option, const std::vector<std::string>& words) {
  try {
    option.set(words);
    option.check();
  } catch (const UsageError& e) {
    const std::string message = text("--", e.what());
    if (option.kind != Option::Kind::kNumber) throw UsageError(message);
    throw CLI::ValidationError(message, CLI::ExitCodes::ValidationError);
  }
  option.given = true;
}

/// "which colour (red or blue; default: the wall's)".
std::string help_of(const OptionInfo& info) {
  const std::string otherwise = info.default_value.empty() ? "" : "default: " + info.default_value;
  const std::string both = info.choices + (info.choices.empty() || otherwise.empty() ? "" : "; ") + otherwise;
  return both.empty() ? info.help : text(info.help, " (", both, ")");
}

void add_option(CLI::App& command, Option& option) {
  const auto set = [&option](const std::vector<std::string>& words) { set_from_command_line(option, words); };
  auto* added = command.add_option_function<std::vector<std::string>>(flags_of(option), set, help_of(option.info));
  added->option_text(type_and_default(option))->group(option.group);
  if (option.is_list) {
    added->expected(1, 1 << 20)->delimiter(',');
  } else {
    added->expected(1)->allow_extra_args(false)->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  }
  if (option.kind == Option::Kind::kBool) added->expected(0, 1)->default_str("True");
}

Json settings_of(const std::string& path) {
  const std::string bytes = read_file(path);
  EPD_REQUIRE_USAGE(!bytes.empty(), "the file is empty");
  if (!path.ends_with(".toml")) {
    auto json = Json::parse(bytes, nullptr, /*allow_exceptions=*/false, /*ignore_comments=*/true);
    EPD_REQUIRE_USAGE(json.is_object(), "not a JSON object of options and values");
    return json;
  }
  auto settings = Json::object();
  auto stream = stream_of(bytes);
  for (const auto& item : CLI::ConfigTOML().from_config(stream)) settings[item.name] = item.inputs;
  return settings;
}

void require_what_is_required(const Options& options, const std::string& program) {
  for (const Option& option : options) {
    EPD_REQUIRE_USAGE(!option.info.required || option.given, "--", option.name, " is required (", program,
                      " --help lists the options)");
  }
}

/// Names of files may be any bytes; other words are written into JSON and read by tokenizers.
void require_text(const Options& options) {
  for (const Option& option : options) {
    if (option.kind != Option::Kind::kText || option.info.path != NamesPath::kNo) continue;
    for (const auto& word : option.get()) {
      EPD_REQUIRE_USAGE(valid_utf8(word) == word, "--", option.name, ": expected UTF-8 text, got '",
                        shown(valid_utf8(word)), "'");
    }
  }
}

int num_devices(at::DeviceType type) {
  return c10::impl::hasDeviceGuardImpl(type) ? c10::impl::VirtualGuardImpl(type).deviceCount() : 0;
}

/// The device of that name, of whatever kind LibTorch knows, but the CPU.
at::Device accelerator_of(const std::string& name) {
  try {
    const at::Device device(name);
    if (at::isAccelerator(device.type())) return device;
  } catch (const c10::Error&) {
  }
  throw UsageError(text("--device: expected auto, cpu, cuda or cuda:N, got '", name, "'"));
}

Command* parse_alone(Program& program, int argc, const char* const* argv) {
  CLI::App app(program.description, program.name);
  app.set_version_flag("--version", text(program.name, " ", version()));
  app.get_formatter()->column_width(36);
  if (program.commands.size() > 1) app.require_subcommand(1);
  for (Command& command : program.commands) {
    CLI::App& target = command.name.empty() ? app : *app.add_subcommand(command.name, command.description);
    for (Option& option : command.options) add_option(target, option);
  }
  std::vector<std::string> tokens(argv + std::min(argc, 1), argv + argc);
  std::ranges::transform(tokens, tokens.begin(), with_underscores);
  std::ranges::reverse(tokens);  // CLI11 takes them from the back
  try {
    app.parse(std::move(tokens));
  } catch (const CLI::Success& e) {
    app.exit(e, std::cout, std::cerr);
    return nullptr;
  } catch (const CLI::ExtrasError&) {
    throw UsageError(text(unknown_word(app), " (", program.name, " --help lists the options)"));
  } catch (const CLI::Error& e) {
    throw UsageError(text(on_one_line(e.what()), " (", program.name, " --help lists the options)"));
  }
  const auto chosen = std::ranges::find_if(program.commands, [&](const Command& command) {
    return command.name.empty() || app.get_subcommand(command.name)->parsed();
  });
  const Option* config = chosen->options.find("config");
  if (config != nullptr && config->given) read_settings(chosen->options, config->get().at(0));
  require_what_is_required(chosen->options, program.name);
  require_text(chosen->options);
  require_separate(chosen->options);
  return &*chosen;
}

}  // namespace

Options options_of(Common& o) {
  return Options("Common")
      .add("config", o.config, help("JSON or TOML file of options; the command line wins").reads().as("FILE"))
      .add("device", o.device, help("auto, cpu, cuda or cuda:N"))
      .add("threads", o.threads, help("CPU threads per process (0: LibTorch's default)").in(between(0, 4096)))
      .add("verbose", o.verbose, help("verbose logging"))
      .add("quiet", o.quiet, help("log errors only"));
}

Command* Program::parse(int argc, const char* const* argv) {
  Command* chosen = nullptr;
  report_once([&] { chosen = parse_alone(*this, argc, argv); });
  return chosen;
}

void read_settings(Options& options, const std::string& path) {
  try {
    set_options(options, settings_of(path));
  } catch (const CLI::Error& e) {
    throw UsageError(text("--config ", path, ": ", on_one_line(e.what())));
  } catch (const Error& e) {
    throw UsageError(text("--config ", path, ": ", e.what()));
  }
}

void apply(const Common& common) {
  report_once([&] { EPD_REQUIRE_USAGE(!(common.verbose && common.quiet), "give --verbose or --quiet, not both"); });
  if (common.verbose) log::set_level(log::Level::kDebug);
  if (common.quiet) log::set_level(log::Level::kError);
  if (common.threads > 0) at::set_num_threads(common.threads);
  set_environment();
}

at::Device choose_device(const Common& common, int local_rank) {
  const auto& name = common.device;
  const auto accelerator = at::getAccelerator();
  const bool none = !accelerator || num_devices(*accelerator) == 0;
  if (none && name != "cpu") {
    const auto why = unusable_cards();
    EPD_REQUIRE(why.empty(), "--device ", name, ": ", why, "; update the driver, name a LibTorch that fits it with ",
                "EPD_TORCH, or give --device cpu");
  }
  if (name == "cpu" || (name == "auto" && none)) return at::kCPU;
  const at::Device device = name == "auto" ? at::Device(*accelerator) : accelerator_of(name);
  const int count = num_devices(device.type());
  EPD_REQUIRE(count > 0, "--device ", name, ": there is no ", device.type(),
              " device on this machine; use --device cpu");
  EPD_REQUIRE(device.index() < count, "--device ", name, ": there are ", count, " ", device.type(),
              " device(s) on this machine");
  return device.has_index() ? device : at::Device(device.type(), static_cast<at::DeviceIndex>(local_rank % count));
}

void on_all_processes(const Common& common, const std::function<void(ProcessGroup&, at::Device)>& work) {
  at::Device device = at::kCPU;
  report_once([&] { device = choose_device(common, rank_environment().local_rank); });
  const auto group = ProcessGroup::from_environment();
  group->run([&] {
    set_current(device);
    group->use_device(device, device_identity(device));
    work(*group, device);
  });
}

at::Device planned_device(const Common& common) {
  const bool is_there = common.device == "auto" || common.device == "cpu";
  return is_there ? choose_device(common, 0) : accelerator_of(common.device);
}

void on_root(const std::function<void()>& work) {
  if (rank_environment().rank == 0) work();
}

}  // namespace epd::cli
