#pragma once

#include <cstdint>
#include <filesystem>
#include <string_view>

namespace epd {

/// An open file of the operating system, closed at the end.
class Descriptor {
 public:
  explicit Descriptor(int number = -1) : number_(number) {}
  ~Descriptor();
  Descriptor(Descriptor&& other) noexcept : number_(other.release()) {}
  Descriptor& operator=(Descriptor&& other) noexcept;

  /// Throws Error, naming the path, when it cannot be opened.
  static Descriptor open_to_read(const std::filesystem::path& path);
  /// A file without a name in the folder for temporary files: it vanishes when it is closed.
  static Descriptor temporary();

  int number() const { return number_; }
  int release();

 private:
  int number_;
};

/// Writes everything, whatever the system makes of it (parts, interruptions). Throws Error naming the path.
void write_all(int descriptor, std::string_view bytes, const std::filesystem::path& path);

/// Reads exactly num_bytes from the offset. Throws Error naming the path, also where the file ends before.
void read_at(int descriptor, std::uint64_t offset, char* out, std::size_t num_bytes, const std::filesystem::path& path);

/// Throws Error "cannot WHAT PATH: system's reason".
[[noreturn]] void fail_with_errno(std::string_view what, const std::filesystem::path& path, int error);

}  // namespace epd
