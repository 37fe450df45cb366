#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "epd/core/options.h"
#include "epd/files/json.h"

namespace epd {

/// The option's value: a number, true or false, text, a list of these, or null where it is unset.
Json option_json(const Option& option);

/// All options by name: what a settings file (--config) can hold, and a run writes beside its output.
Json options_json(const Options& options);

/// What the result depends on: the options that decide it. One that names a file stands here with the file's SHA-256,
/// under its name with _sha256 in place of _path. `found` are values that were found out (a hash that is known, what
/// `auto` means here), under the option's name here or further ones.
Json decisive_options(const Options& options, const Json& found);

/// What the ranks of a job must agree on besides: the options that say when they meet.
Json job_options(const Options& options);

/// The first field in which two records differ, for people: "guidance_rate is 2 there and 1.5 here"; nothing where all
/// are equal. Numbers are compared as numbers; the order of the fields does not count.
std::optional<std::string> first_difference(const Json& there, const Json& here);

/// The same for the texts of two records, which differ.
std::string first_difference(const std::string& there, const std::string& here);

/// Sets the options that `settings`, an object by name, holds and nobody has given yet; null is nothing. Throws
/// UsageError for an unknown name or a value that does not fit.
void set_options(Options& options, const Json& settings);

}  // namespace epd
