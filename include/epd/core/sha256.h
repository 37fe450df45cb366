#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace epd {

/// The SHA-256 of the bytes, as 64 lower-case hexadecimal digits.
std::string sha256_hex(std::string_view bytes);

/// The SHA-256 of a file, read piece by piece. Throws Error, naming the file, when it cannot be read.
std::string sha256_of_file(const std::filesystem::path& path);

}  // namespace epd
