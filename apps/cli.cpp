#include "cli.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <charconv>
#include <functional>
#include <iostream>
#include <optional>
#include <vector>

#include "epd/core/log.h"
#include "epd/core/version.h"
#include "epd/distributed/environment.h"
#include "settings_file.h"

namespace epd::cli {
namespace {

using nlohmann::ordered_json;
using Tokens = std::vector<std::string>;

constexpr const char* kBoolType = "BOOL";
constexpr const char* kAfsType = "BOOL|mean";

std::optional<bool> to_bool(std::string word) {
  std::ranges::transform(word, word.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  if (word == "true" || word == "1" || word == "yes" || word == "on") return true;
  if (word == "false" || word == "0" || word == "no" || word == "off") return false;
  return std::nullopt;
}

/// Whether an option of this type takes the word; such an option may stand alone.
bool takes_word(const std::string& type, const std::string& word) {
  return to_bool(word).has_value() || (type == kAfsType && word == "mean");
}

/// "--num-steps=3-4" -> "--num_steps=3-4". Other tokens stay as they are.
std::string with_underscores(std::string token) {
  if (!token.starts_with("--")) return token;
  const auto end = std::min(token.find('='), token.size());
  std::replace(token.begin() + 2, token.begin() + static_cast<std::ptrdiff_t>(end), '-', '_');
  return token;
}

std::string option_name(const std::string& token) { return token.substr(0, token.find('=')); }

bool is_option(const std::string& token) { return token.size() > 1 && token[0] == '-' && !std::isdigit(token[1]); }

/// The option that a token names, or null.
const CLI::Option* find_option(const CLI::App& command, const std::string& token) {
  return is_option(token) ? command.get_option_no_throw(option_name(token)) : nullptr;
}

bool takes_many(const CLI::Option& option) { return option.get_items_expected_max() > 1; }

/// The command that the tokens select: a subcommand is named first.
CLI::App& selected_command(CLI::App& app, const Tokens& tokens) {
  if (tokens.empty()) return app;
  const auto named = app.get_subcommands([&](const CLI::App* sub) { return sub->get_name() == tokens.front(); });
  return named.empty() ? app : *named.front();
}

/// Underscores in names, and `--afs` or `--afs True` as `--afs=True`.
Tokens normalised(CLI::App& app, Tokens tokens) {
  for (auto& token : tokens) token = with_underscores(token);
  const CLI::App& command = selected_command(app, tokens);
  Tokens result;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const auto* option = find_option(command, tokens[i]);
    const auto type = option != nullptr ? option->get_type_name() : "";
    const bool alone = (type == kBoolType || type == kAfsType) && tokens[i].find('=') == std::string::npos;
    if (!alone) {
      result.push_back(tokens[i]);
    } else if (i + 1 < tokens.size() && takes_word(type, tokens[i + 1])) {
      result.push_back("--" + option->get_single_name() + "=" + tokens[++i]);
    } else {
      result.push_back("--" + option->get_single_name() + "=true");
    }
  }
  return result;
}

CLI::Option* add_bool_function(CLI::App& command, const std::string& names, const std::function<void(bool)>& set,
                               const std::string& help) {
  const auto first_name = names.substr(0, names.find(','));
  auto* option = command.add_option_function<std::string>(
      names,
      [set, first_name](const std::string& word) {
        const auto read = to_bool(word);
        EPD_REQUIRE_USAGE(read.has_value(), first_name, ": expected True or False, got '", word, "'");
        set(*read);
      },
      help);
  return option->type_name(kBoolType);
}

CLI::Option* add_afs_function(CLI::App& command, const std::function<void(Afs)>& set, const std::string& otherwise) {
  auto* option = command.add_option_function<std::string>(
      "--afs",
      [set](const std::string& word) {
        EPD_REQUIRE_USAGE(takes_word(kAfsType, word), "--afs: expected True, False or mean, got '", word, "'");
        set(word == "mean" ? Afs::kMean : *to_bool(word) ? Afs::kAnalytical : Afs::kNo);
      },
      text("no first evaluation: its direction is x / sqrt(1 + t^2), or its image the mean of the data", otherwise));
  return option->type_name(kAfsType);
}

std::string joined(const std::vector<std::string>& values) {
  std::string result;
  for (const auto& value : values) result += (result.empty() ? "" : ",") + value;
  return result;
}

/// The options of a settings file as tokens, without those that the command line gives.
Tokens config_tokens(const CLI::App& command, const std::string& path, const Tokens& given) {
  Tokens result;
  for (const auto& [name, values] : read_settings(path)) {
    const std::string token = with_underscores("--" + name);
    const auto* option = command.get_option_no_throw(token);
    EPD_REQUIRE_USAGE(option != nullptr && token != "--config", "--config ", path, ": unknown option '", name, "'");
    const bool on_command_line =
        std::ranges::any_of(given, [&](const auto& other) { return find_option(command, other) == option; });
    if (on_command_line || joined(values).empty()) continue;
    if (takes_many(*option)) {
      for (const auto& value : values) result.push_back(token + "=" + value);
    } else {
      result.push_back(token + "=" + joined(values));
    }
  }
  return result;
}

/// The value of --config among the tokens.
std::optional<std::string> config_path(const Tokens& tokens) {
  std::optional<std::string> path;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i].starts_with("--config=")) path = tokens[i].substr(9);
    if (tokens[i] == "--config" && i + 1 < tokens.size()) path = tokens[i + 1];
  }
  return path;
}

std::string on_one_line(std::string message) {
  while (!message.empty() && std::isspace(static_cast<unsigned char>(message.back()))) message.pop_back();
  std::ranges::replace(message, '\n', ' ');
  return message;
}

ordered_json to_json(const CLI::Option& option, const std::string& value) {
  const auto type = option.get_type_name();
  if (value.empty()) return nullptr;
  if (type == kBoolType || type == kAfsType) {
    if (const auto read = to_bool(value)) return *read;
  }
  if (type.starts_with("INT") || type.starts_with("UINT") || type.starts_with("FLOAT")) {
    const auto number = ordered_json::parse(value, nullptr, false);
    if (number.is_number()) return number;
  }
  return value;
}

}  // namespace

std::unique_ptr<CLI::App> make_app(const std::string& name, const std::string& description) {
  auto app = std::make_unique<CLI::App>(description, name);
  app->option_defaults()->always_capture_default();
  app->set_version_flag("--version", text(name, " ", version()));
  app->get_formatter()->column_width(36);
  return app;
}

void add_common(CLI::App& command, Common& common) {
  command.add_option("--config", "JSON (or TOML) file of options; the command line wins")->type_name("FILE");
  command.add_option("--device", common.device, "auto, cpu, cuda or cuda:N");
  command.add_option("--threads", common.threads, "CPU threads of the network (0: as the machine says)")
      ->check(CLI::Range(0, 4096).description(""));
  add_bool(command, "--verbose", common.verbose, "say more on stderr");
  add_bool(command, "--quiet", common.quiet, "say nothing but errors on stderr");
}

CLI::Option* add_bool(CLI::App& command, const std::string& names, bool& value, const std::string& help) {
  auto* option = add_bool_function(
      command, names, [&value](bool read) { value = read; }, help);
  return option->default_str(value ? "True" : "False");
}

CLI::Option* add_bool(CLI::App& command, const std::string& names, std::optional<bool>& value, const std::string& help,
                      const std::string& otherwise) {
  auto* option = add_bool_function(
      command, names, [&value](bool read) { value = read; }, text(help, " (unset: ", otherwise, ")"));
  return option->default_str("");
}

CLI::Option* add_afs(CLI::App& command, Afs& value) {
  auto* option = add_afs_function(
      command, [&value](Afs read) { value = read; }, "");
  return option->default_str(name_of(kAfsNames, value));
}

CLI::Option* add_afs(CLI::App& command, std::optional<Afs>& value, const std::string& otherwise) {
  auto* option = add_afs_function(
      command, [&value](Afs read) { value = read; }, text(" (unset: ", otherwise, ")"));
  return option->default_str("");
}

namespace {

bool parse_alone(CLI::App& app, int argc, const char* const* argv) {
  auto tokens = normalised(app, Tokens(argv + std::min(argc, 1), argv + argc));
  CLI::App& command = selected_command(app, tokens);
  if (const auto path = config_path(tokens)) {
    const auto configured = config_tokens(command, *path, tokens);
    tokens.insert(tokens.begin() + (&command == &app ? 0 : 1), configured.begin(), configured.end());
  }
  for (auto* option : command.get_options()) {
    if (!takes_many(*option)) option->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  }
  std::ranges::reverse(tokens);  // CLI11 takes them from the back
  try {
    app.parse(std::move(tokens));
  } catch (const CLI::Success& e) {
    app.exit(e, std::cout, std::cerr);
    return false;
  } catch (const CLI::Error& e) {
    throw UsageError(text(on_one_line(e.what()), " (", app.get_name(), " --help lists the options)"));
  }
  return true;
}

}  // namespace

bool parse(CLI::App& app, int argc, const char* const* argv) {
  bool goes_on = false;
  report_once([&] { goes_on = parse_alone(app, argc, argv); });
  return goes_on;
}

void apply(const Common& common) {
  report_once(
      [&] { EPD_REQUIRE_USAGE(!(common.verbose && common.quiet), "--verbose and --quiet exclude each other"); });
  if (common.verbose) log::set_level(log::Level::kDebug);
  if (common.quiet) log::set_level(log::Level::kError);
  if (common.threads > 0) at::set_num_threads(common.threads);
}

at::Device choose_device(const Common& common, int local_rank) {
  const auto& name = common.device;
  const int count = at::hasCUDA() ? static_cast<int>(at::detail::getCUDAHooks().deviceCount()) : 0;
  if (name == "cpu" || (name == "auto" && count == 0)) return at::kCPU;
  if (name == "auto" || name == "cuda") {
    EPD_REQUIRE(count > 0, "--device ", name, ": there is no CUDA device on this machine; use --device cpu");
    return at::Device(at::kCUDA, static_cast<at::DeviceIndex>(local_rank % count));
  }
  int index = -1;
  const char* const end = name.data() + name.size();
  const bool numbered = name.starts_with("cuda:") && std::from_chars(name.data() + 5, end, index).ptr == end;
  EPD_REQUIRE_USAGE(numbered && index >= 0, "--device: expected auto, cpu, cuda or cuda:N, got '", name, "'");
  EPD_REQUIRE(index < count, "--device ", name, ": there are ", count, " CUDA devices on this machine");
  return at::Device(at::kCUDA, static_cast<at::DeviceIndex>(index));
}

std::shared_ptr<ProcessGroup> join_job(const Common& common) {
  auto type = at::kCPU;
  report_once([&] { type = choose_device(common, 0).type(); });
  return ProcessGroup::from_environment(type);
}

void on_root(const std::function<void()>& work) {
  if (rank_environment().rank == 0) work();
}

ordered_json used_options(const CLI::App& command) {
  ordered_json result = ordered_json::object();
  for (const auto* option : command.get_options()) {
    if (option->get_lnames().empty()) continue;
    const auto& name = option->get_lnames().front();
    if (name == "help" || name == "version" || name == "config") continue;
    if (takes_many(*option)) {
      result[name] = ordered_json::array();
      for (const auto& value : option->results()) result[name].push_back(to_json(*option, value));
    } else {
      result[name] = to_json(*option, option->count() > 0 ? option->results().back() : option->get_default_str());
    }
  }
  return result;
}

}  // namespace epd::cli
