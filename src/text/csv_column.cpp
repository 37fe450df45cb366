#include "csv_column.h"

#include <csv.h>

#include <algorithm>
#include <memory>

#include "epd/core/error.h"

namespace epd {
namespace {

/// Picks one column out of the fields as libcsv reports them. Nothing may be thrown through the C library's frames, so
/// a failure is kept until it has returned.
struct ColumnPicker {
  const std::string& column;
  const std::string& where;
  std::size_t wanted = 0;
  std::vector<std::string> fields;  // of the row so far
  std::vector<std::string> values;
  bool in_header = true;
  std::string failure;

  void end_row() {
    const std::size_t row = values.size() + 1;
    if (!failure.empty()) return;
    if (in_header) {
      wanted = static_cast<std::size_t>(std::ranges::find(fields, column) - fields.begin());
      if (wanted == fields.size()) failure = text(where, ": its first line has no column called '", column, "'");
    } else if (wanted >= fields.size()) {
      failure = text(where, ": row ", row, " has ", fields.size(), " fields and ends before the column '", column, "'");
    } else {
      values.push_back(std::move(fields[wanted]));
    }
    in_header = false;
    fields.clear();
  }

  static void on_field(void* data, std::size_t size, void* self) {
    static_cast<ColumnPicker*>(self)->fields.emplace_back(static_cast<const char*>(data), size);
  }
  static void on_row(int, void* self) { static_cast<ColumnPicker*>(self)->end_row(); }
};

int keep_spaces(unsigned char) { return 0; }

}  // namespace

std::vector<std::string> csv_column(std::string_view csv, const std::string& column, const std::string& where) {
  csv_parser parser;
  EPD_REQUIRE(csv_init(&parser, 0) == 0, where, ": libcsv does not start");
  const std::unique_ptr<csv_parser, void (*)(csv_parser*)> freed(&parser, csv_free);
  csv_set_space_func(&parser, keep_spaces);
  ColumnPicker picker{column, where};
  for (const std::string_view part : {csv, std::string_view("\n")}) {  // the last line need not end in a newline
    const bool parsed = csv_parse(&parser, part.data(), part.size(), ColumnPicker::on_field, ColumnPicker::on_row,
                                  &picker) == part.size();
    EPD_REQUIRE(parsed, where, ": after row ", picker.values.size(), ": ", csv_strerror(csv_error(&parser)));
  }
  EPD_REQUIRE(picker.failure.empty(), picker.failure);
  bool open = false;  // all rows have ended: what is left now is a field that was begun and swallowed the rest
  csv_fini(
      &parser, [](void*, std::size_t, void* flag) { *static_cast<bool*>(flag) = true; }, nullptr, &open);
  EPD_REQUIRE(!open, where, ": after row ", picker.values.size(), ": a quoted field is never closed");
  EPD_REQUIRE(!picker.in_header, where, " is empty: expected a header line with the column '", column, "'");
  return std::move(picker.values);
}

}  // namespace epd
