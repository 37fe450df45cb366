#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
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

  bool is_open() const { return number_ >= 0; }
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

/// How long a file outlives a failure. Either way other processes, and whoever looks after a kill, see the whole file
/// or the old one.
enum class Durability {
  kRename,  // a power cut may lose it
  kSync     // the file and its folder are on the disk when the call returns
};

/// A file that comes into being whole: bytes go to a file without a name in the same folder, or with a temporary one
/// where the file system knows no such files; commit() gives it its name. Every failure throws Error with the path and
/// the system's reason; without commit() nothing remains.
/// Replaces regular files only (a symbolic link is followed), never a device, pipe or folder.
class AtomicFile {
 public:
  explicit AtomicFile(const std::filesystem::path& path, Durability durability = Durability::kRename);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void append(std::string_view bytes);
  /// Overwrites bytes appended before, such as a header whose numbers are known at the end.
  void write_at(std::uint64_t offset, std::string_view bytes);
  /// Makes the file appear under its name; nothing may be appended after.
  void commit();

  std::uint64_t size() const { return size_; }
  const std::filesystem::path& path() const { return path_; }

 private:
  void discard() noexcept;
  /// Gives the nameless file this name; false where something has it.
  bool take_name(const std::filesystem::path& name);

  std::filesystem::path path_;       // as the caller named it, for messages
  std::filesystem::path target_;     // with symbolic links followed
  std::filesystem::path temporary_;  // empty while nameless, and once committed or removed
  Durability durability_;
  Descriptor descriptor_;
  std::uint64_t size_ = 0;
};

/// The bytes as a file, by AtomicFile.
void write_file(const std::filesystem::path& path, std::string_view bytes, Durability durability = Durability::kRename);

/// The whole file. Throws Error, naming it, when it is missing, a folder, unreadable or larger than `max_bytes`.
std::string read_file(const std::filesystem::path& path, std::uint64_t max_bytes = std::uint64_t{1} << 36);

/// A name in the folder for what is not finished yet, unique among the threads and processes of all machines.
std::filesystem::path temporary_path(const std::filesystem::path& folder);

/// Whether a name is one that AtomicFile gives to unfinished files (left behind by a killed process).
bool is_temporary_name(std::string_view file_name);

/// Removes the unfinished files that a killed process left in the folder. Nobody may be writing there.
void remove_temporary_files(const std::filesystem::path& folder);

}  // namespace epd
