#pragma once

#include <charconv>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "epd/core/error.h"
#include "epd/core/names.h"
#include "epd/core/seeds.h"

namespace epd {

/// What depends on an option.
enum class Decides {
  kNothing,  // how a run goes about its work: may differ between ranks, and when a run is resumed
  kJob,      // when the ranks meet: the same on all of them
  kResult,   // what comes out: the same on all ranks and in every part of a run
  kContent   // likewise, but a value that names a file counts by the file's SHA-256
};

/// Whether an option's value is a file or folder, and what becomes of it: kOther is checked where it is used.
enum class NamesPath { kNo, kInput, kOutput, kOther };

/// The values that a number may have. A number is always finite.
struct Bounds {
  double low = -std::numeric_limits<double>::infinity(), high = std::numeric_limits<double>::infinity();
  bool above_low = false, below_high = false;  // the bound itself is refused

  /// "0 or more", "1 to 64", "a positive number", "0 <= x < 1".
  std::string text() const;
  bool hold(double value) const;
};
inline Bounds at_least(double low) { return {.low = low}; }
inline Bounds between(double low, double high) { return {.low = low, .high = high}; }
inline Bounds positive() { return {.low = 0, .above_low = true}; }

/// What a description says of an option besides its name and field:
///   help("weight of the feature loss").decides_result().in(positive())
struct OptionInfo {
  std::string help;
  Decides decides = Decides::kNothing;
  Bounds bounds;
  std::string choices;        // of a closed set, in the help
  std::string default_value;  // in the help of a field that is unset
  std::string type;           // in the help: FILE, DIR, ...; "": the field's own
  bool required = false;
  NamesPath path = NamesPath::kNo;

  OptionInfo decides_result() && { return with(&OptionInfo::decides, Decides::kResult); }
  OptionInfo decides_content() && { return with(&OptionInfo::decides, Decides::kContent); }
  OptionInfo decides_job() && { return with(&OptionInfo::decides, Decides::kJob); }
  OptionInfo in(Bounds value) && { return with(&OptionInfo::bounds, value); }
  OptionInfo otherwise(std::string value) && { return with(&OptionInfo::default_value, std::move(value)); }
  OptionInfo as(std::string value) && { return with(&OptionInfo::type, std::move(value)); }
  OptionInfo reads() && { return with(&OptionInfo::path, NamesPath::kInput); }
  OptionInfo names_path() && { return with(&OptionInfo::path, NamesPath::kOther); }
  OptionInfo writes() && { return with(&OptionInfo::path, NamesPath::kOutput); }
  OptionInfo needed() && { return with(&OptionInfo::required, true); }

  template <class T>
  OptionInfo with(T OptionInfo::*field, T value) {
    this->*field = std::move(value);
    return std::move(*this);
  }
};
inline OptionInfo help(std::string text) { return {.help = std::move(text)}; }

/// What becomes of a run at an image that cannot be read or is not finite.
enum class OnBad {
  kStop,  // it ends with an Error that names the image
  kSkip   // the image is left out and counted
};
inline constexpr NameTable<OnBad, 2> kOnBadNames{{{"stop", OnBad::kStop}, {"skip", OnBad::kSkip}}};
constexpr const auto& names_of(OnBad) { return kOnBadNames; }

/// How a field's type is read and written. Specialise it, or for an enum give it a name table: names_of(Enum).
template <class T>
struct OptionValue;

/// One option of a program: a field of an options struct by name, as text. The field lives in the struct.
class Option {
 public:
  enum class Kind { kText, kNumber, kBool };  // kBool: may stand alone, and then means True

  std::string name, group;           // without dashes
  std::vector<std::string> aliases;  // "return_inters", "n" (a letter: a short name)
  OptionInfo info;
  Kind kind = Kind::kText;
  bool is_list = false;
  bool given = false;  // by the command line or a file, not by default

  /// Sets the field. Throws UsageError, "name: expected ..., got ...".
  std::function<void(const std::vector<std::string>&)> set;
  /// The field's values: one, several for a list, none where it is unset.
  std::function<std::vector<std::string>()> get;

  /// Throws UsageError where a number is out of its bounds.
  void check() const;
};

/// The description of an options struct: a row a field. The command line, settings files, records of a run, bounds, and
/// what ranks and resumed runs must agree on are all read from it.
///
///     Options options_of(PaintOptions& o) {
///       return Options("Paint")
///           .add("colour", o.colour, help("of the wall").decides_result())
///           .add("coats,n", o.coats, help("how often").decides_result().in(between(1, 9)));
///     }
class Options {
 public:
  explicit Options(std::string group = "") : group_(std::move(group)) {}

  /// The group of the rows that follow, a heading in the help.
  Options& group(std::string name) {
    group_ = std::move(name);
    return *this;
  }
  /// `names`: the name, then aliases, with commas between them.
  template <class T>
  Options& add(std::string_view names, T& field, OptionInfo info);
  /// The rows of another description.
  Options& add(Options others);

  /// Throws UsageError for the first number out of its bounds.
  void check() const;
  Option* find(std::string_view name_or_alias);

  auto begin() { return rows_.begin(); }
  auto end() { return rows_.end(); }
  auto begin() const { return rows_.begin(); }
  auto end() const { return rows_.end(); }

 private:
  Option& add_row(std::string_view names, OptionInfo info);

  std::string group_;
  std::vector<Option> rows_;
};

/// A decimal number; UsageError "name: expected a number, got 'x'" for anything else, "a whole number" for integers.
template <class T>
T read_number(const std::string& word, const std::string& name) {
  T value{};
  const char* const end = word.data() + word.size();
  const auto [stopped, error] = std::from_chars(word.data(), end, value);
  const bool is_number = error == std::errc() && stopped == end && std::isfinite(static_cast<double>(value));
  const bool too_large = error == std::errc::result_out_of_range && stopped == end && std::integral<T>;
  EPD_REQUIRE_USAGE(!too_large, name, ": expected ", std::to_string(std::numeric_limits<T>::min()), " to ",
                    std::to_string(std::numeric_limits<T>::max()), ", got ", shown(word));
  EPD_REQUIRE_USAGE(is_number, name, ": expected a ", std::integral<T> ? "whole number" : "number", ", got '",
                    shown(word), "'");
  return value;
}
/// True or False, true or false, yes or no, on or off, 1 or 0; nothing for other words.
std::optional<bool> read_bool(std::string word);
/// The shortest text that reads back as the same float64.
std::string number_text(double value);

template <class T>
requires std::integral<T> || std::floating_point<T>
struct OptionValue<T> {
  static constexpr auto kKind = Option::Kind::kNumber;
  static std::string type() { return std::integral<T> ? "INT" : "FLOAT"; }
  static T read(const std::string& word, const std::string& name) { return read_number<T>(word, name); }
  static std::string write(T value) {
    if constexpr (std::integral<T>) return std::to_string(value);
    return number_text(static_cast<double>(value));
  }
};

template <>
struct OptionValue<bool> {
  static constexpr auto kKind = Option::Kind::kBool;
  static std::string type() { return "BOOL"; }
  static bool read(const std::string& word, const std::string& name) {
    const auto value = read_bool(word);
    EPD_REQUIRE_USAGE(value.has_value(), name, ": expected True or False, got '", shown(word), "'");
    return *value;
  }
  static std::string write(bool value) { return value ? "True" : "False"; }
};

template <class T>
requires std::same_as<T, std::string> || std::same_as<T, std::filesystem::path>
struct OptionValue<T> {
  static constexpr auto kKind = Option::Kind::kText;
  static std::string type() { return std::same_as<T, std::string> ? "TEXT" : "FILE"; }
  static T read(const std::string& word, const std::string&) { return word; }
  static std::string write(const T& value) { return std::filesystem::path(value).string(); }
};

template <class T>
requires std::is_enum_v<T>
struct OptionValue<T> {
  static constexpr auto kKind = Option::Kind::kText;
  static std::string type() { return "NAME"; }
  static std::string choices() { return all_names(names_of(T{})); }
  static T read(const std::string& word, const std::string& name) { return value_of(names_of(T{}), word, name); }
  static std::string write(T value) { return name_of(names_of(value), value); }
};

/// Seeds: "0-63,100".
template <>
struct OptionValue<std::vector<std::uint64_t>> {
  static constexpr auto kKind = Option::Kind::kText;
  static std::string type() { return "LIST"; }
  static std::vector<std::uint64_t> read(const std::string& word, const std::string&) { return parse_seeds(word); }
  static std::string write(const std::vector<std::uint64_t>& seeds) { return seeds.empty() ? "" : seeds_text(seeds); }
};

namespace detail {

template <class T>
struct OptionField {  // one value
  using Value = T;
  static void set(T& field, const std::vector<std::string>& words, const std::string& name) {
    field = OptionValue<T>::read(words.back(), name);
  }
  static std::vector<std::string> get(const T& field) {
    const std::string word = OptionValue<T>::write(field);
    return word.empty() ? std::vector<std::string>{} : std::vector<std::string>{word};
  }
};

template <class T>
struct OptionField<std::optional<T>> {
  using Value = T;
  static void set(std::optional<T>& field, const std::vector<std::string>& words, const std::string& name) {
    field = OptionValue<T>::read(words.back(), name);
  }
  static std::vector<std::string> get(const std::optional<T>& field) {
    return field ? std::vector<std::string>{OptionValue<T>::write(*field)} : std::vector<std::string>{};
  }
};

template <class T>
requires(!std::same_as<T, std::uint64_t>) struct OptionField<std::vector<T>> {
  using Value = T;
  static void set(std::vector<T>& field, const std::vector<std::string>& words, const std::string& name) {
    field.clear();
    for (const auto& word : words) field.push_back(OptionValue<T>::read(word, name));
  }
  static std::vector<std::string> get(const std::vector<T>& field) {
    std::vector<std::string> words;
    for (const auto& value : field) words.push_back(OptionValue<T>::write(value));
    return words;
  }
};

template <class T>
constexpr bool kIsList = false;
template <class T>
requires(!std::same_as<T, std::uint64_t>) constexpr bool kIsList<std::vector<T>> = true;

}  // namespace detail

template <class T>
Options& Options::add(std::string_view names, T& field, OptionInfo info) {
  using Field = detail::OptionField<T>;
  using Value = OptionValue<typename Field::Value>;
  if (info.type.empty()) info.type = Value::type();
  if constexpr (requires { Value::choices(); }) info.choices = Value::choices();
  Option& row = add_row(names, std::move(info));
  row.kind = Value::kKind;
  row.is_list = detail::kIsList<T>;
  row.set = [&field, name = row.name](const std::vector<std::string>& words) { Field::set(field, words, name); };
  row.get = [&field] { return Field::get(field); };
  return *this;
}

}  // namespace epd
