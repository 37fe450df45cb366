#include "epd/text/prompts.h"

#include <csv.h>

#include <algorithm>
#include <cctype>
#include <exception>
#include <memory>
#include <new>
#include <string_view>
#include <utility>

#include "epd/core/error.h"
#include "epd/files/checksums.h"
#include "epd/files/json.h"

namespace epd {
namespace {

/// The file, without a byte order mark.
std::string read_text(const std::filesystem::path& path) {
  std::string text = read_checked(path);
  constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
  if (text.starts_with(kByteOrderMark)) text.erase(0, kByteOrderMark.size());
  EPD_REQUIRE(valid_utf8(text) == text, path.string(), ": expected UTF-8 text");
  return text;
}

bool is_csv(const std::filesystem::path& path) {
  std::string extension = path.extension().string();
  std::ranges::transform(extension, extension.begin(), [](unsigned char c) { return std::tolower(c); });
  return extension == ".csv";
}

/// Lines end in LF or CR LF; the last one may.
std::vector<std::string> lines_of(std::string_view text) {
  std::vector<std::string> lines;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    if (line.ends_with('\r')) line.remove_suffix(1);
    lines.emplace_back(line);
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return lines;
}

/// Picks one column out of the fields as libcsv reports them. Nothing may be thrown through the C library's frames, so
/// a failure is kept until it has returned.
struct ColumnPicker {
  const std::string& column;
  const std::string& where;
  std::size_t wanted = 0;
  std::vector<std::string> fields;  // of the row so far
  std::vector<std::string> values;
  bool optional = false;  // a file without the column has no values
  bool in_header = true, is_absent = false;
  std::string failure;
  std::exception_ptr thrown;
  std::size_t line = 0, row_begins = 1;  // in the file; a quoted field may hold line breaks

  void end_row() {
    const std::size_t row = values.size() + 1;
    if (!failure.empty()) return;
    if (in_header) {
      wanted = static_cast<std::size_t>(std::ranges::find(fields, column) - fields.begin());
      is_absent = wanted == fields.size();
      if (is_absent && !optional) failure = text(where, ": its first line has no column called '", column, "'");
    } else if (!is_absent && wanted >= fields.size()) {
      failure = text(where, ": line ", row_begins, ": row ", row, " has ", fields.size(),
                     " fields and ends before the column '", column, "'");
    } else if (!is_absent) {
      values.push_back(std::move(fields[wanted]));
    }
    in_header = false;
    row_begins = line + 1;
    fields.clear();
  }

  template <class Step>
  void keep_failure(Step step) {
    try {
      step();
    } catch (...) {
      thrown = std::current_exception();
    }
  }
  static void on_field(void* data, std::size_t size, void* self) {
    auto& picker = *static_cast<ColumnPicker*>(self);
    picker.keep_failure([&] { picker.fields.emplace_back(static_cast<const char*>(data), size); });
  }
  static void on_row(int, void* self) {
    auto& picker = *static_cast<ColumnPicker*>(self);
    picker.keep_failure([&] { picker.end_row(); });
  }
};

int keep_spaces(unsigned char) { return 0; }

/// The values of one column of CSV text (RFC 4180, header line first, blank lines left out). `where` is the file's
/// path, for messages. Throws Error without such a column, for a row that ends before it, and for a quote never closed.
std::vector<std::string> csv_column(std::string_view csv, const std::string& column, const std::string& where,
                                    bool optional = false) {
  csv_parser parser;
  EPD_REQUIRE(csv_init(&parser, 0) == 0, where, ": libcsv does not start");
  const std::unique_ptr<csv_parser, void (*)(csv_parser*)> freed(&parser, csv_free);
  csv_set_space_func(&parser, keep_spaces);
  ColumnPicker picker{column, where};
  picker.optional = optional;
  const auto parse = [&](std::string_view part) {
    const bool parsed = csv_parse(&parser, part.data(), part.size(), ColumnPicker::on_field, ColumnPicker::on_row,
                                  &picker) == part.size();
    if (picker.thrown) std::rethrow_exception(picker.thrown);
    if (!parsed && csv_error(&parser) == CSV_ENOMEM) throw std::bad_alloc();
    EPD_REQUIRE(parsed, where, ": line ", picker.line, ": ", csv_strerror(csv_error(&parser)));
  };
  while (!csv.empty()) {
    const auto size = std::min(csv.find('\n'), csv.size() - 1) + 1;
    ++picker.line;
    if (csv.substr(0, size).find_first_not_of("\r\n") == std::string_view::npos && picker.fields.empty()) {
      picker.row_begins += picker.row_begins == picker.line ? 1 : 0;  // a blank line between rows
    }
    parse(csv.substr(0, size));
    csv.remove_prefix(size);
  }
  parse("\n");  // the last line need not end in a newline
  EPD_REQUIRE(picker.failure.empty(), picker.failure);
  bool open = false;  // all rows have ended: what is left now is a field that was begun and swallowed the rest
  csv_fini(
      &parser, [](void*, std::size_t, void* flag) { *static_cast<bool*>(flag) = true; }, nullptr, &open);
  EPD_REQUIRE(!open, where, ": line ", picker.row_begins, ": a quoted field is never closed");
  EPD_REQUIRE(!picker.in_header, where, " is empty: expected a header line with the column '", column, "'");
  return std::move(picker.values);
}

}  // namespace

Prompts::Prompts(std::vector<std::string> captions, std::vector<std::string> negatives, std::string path)
    : captions_(std::move(captions)), negatives_(std::move(negatives)), path_(std::move(path)) {
  EPD_REQUIRE(!captions_.empty(), path_, " holds no prompt");
}

Prompts Prompts::read(const std::filesystem::path& path) {
  const std::string text = read_text(path);
  if (!is_csv(path)) return {lines_of(text), {}, path.string()};
  return {csv_column(text, "text", path.string()),
          csv_column(text, "negative_prompt", path.string(), /*optional=*/true), path.string()};
}

const std::string& Prompts::for_seed(std::uint64_t seed) const {
  EPD_REQUIRE_USAGE(seed < captions_.size(), path_, " has ", captions_.size(), " prompts, for the seeds 0 to ",
                    captions_.size() - 1, ": none for seed ", seed);
  return captions_[seed];
}

std::string weight_in(const std::string& prompt) {
  for (auto close = prompt.find(')'); close != prompt.npos; close = prompt.find(')', close + 1)) {
    const auto colon = close == 0 ? prompt.npos : prompt.find_last_not_of("0123456789.", close - 1);
    if (colon == prompt.npos || colon + 1 == close || colon == 0 || prompt[colon] != ':') continue;
    const bool digit_before = prompt[colon - 1] >= '0' && prompt[colon - 1] <= '9';
    if (digit_before && prompt.find('.', colon) > close) continue;
    const auto open = prompt.rfind('(', colon);
    if (open != prompt.npos) return prompt.substr(open, close - open + 1);
  }
  return {};
}

}  // namespace epd
