#pragma once

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <filesystem>
#include <map>
#include <optional>
#include <random>
#include <string>

#include "epd/core/error.h"
#include "epd/files/atomic_file.h"
#include "epd/files/npz.h"
#include "epd/images/image.h"

namespace epd::test {

/// A folder of its own for a test, removed with all that is in it.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    static std::atomic<int> counter{0};
    path_ = std::filesystem::temp_directory_path() / text("epd-test-", ::getpid(), '-', counter++);
    std::filesystem::create_directories(path_);
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }
  /// How many files and folders stand in it.
  std::size_t count() const {
    return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(path_), {}));
  }

 private:
  std::filesystem::path path_;
};

/// Everything below a folder: names, bytes and times of change. Two of them are equal where nothing was touched.
inline std::map<std::string, std::string> contents(const std::filesystem::path& folder) {
  std::map<std::string, std::string> result;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    const auto time = entry.last_write_time().time_since_epoch().count();
    result[entry.path().string()] = text(time, '\n', entry.is_regular_file() ? read_file(entry.path()) : "");
  }
  return result;
}

inline std::filesystem::path fixture(const std::string& name) {
  return std::filesystem::path(EPD_SOURCE_DIR) / "tests" / "golden" / "files" / name;
}

/// Every array of the file (objects refused).
inline Arrays read_npz(const std::filesystem::path& path) {
  const NpzReader reader(path);
  Arrays arrays;
  for (const auto& name : reader.names()) arrays.emplace(name, reader.read(name));
  return arrays;
}

/// The message of the Error that the call throws, which must be one line; fails where it throws nothing, and where the
/// error would end a program with another exit code.
template <class Call>
std::string error_of(Call&& call, std::optional<int> exit_code = std::nullopt) {
  try {
    call();
  } catch (const Error& e) {
    EXPECT_EQ(e.exit_code(), exit_code.value_or(e.exit_code())) << e.what();
    EXPECT_EQ(std::string(e.what()).find('\n'), std::string::npos) << e.what();
    return e.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return "";
}

/// A picture of random values, which no compressor shrinks.
inline Image noise(int height, int width, int channels, unsigned seed) {
  std::mt19937 generator(seed);
  Image image(height, width, channels);
  for (auto& value : image.pixels) value = static_cast<std::uint8_t>(generator() & 255);
  return image;
}

/// Files of this process can hold no more than the limit while it lives: what a full disk does to a writer.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    old_handler_ = std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{bytes, before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, old_handler_);
  }

 private:
  rlimit before_{};
  void (*old_handler_)(int) = nullptr;
};

}  // namespace epd::test
