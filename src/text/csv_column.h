#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace epd {

/// The values of one column of CSV text (RFC 4180, header line first, blank lines left out). `where` is the file's
/// path, for messages. Throws Error without such a column, for a row that ends before it, and for a quote never closed.
std::vector<std::string> csv_column(std::string_view csv, const std::string& column, const std::string& where);

}  // namespace epd
