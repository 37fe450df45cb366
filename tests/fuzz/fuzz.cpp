#include <cstdint>
#include <cstdlib>
#include <map>
#include <optional>
#include <string>

#include "fuzz/targets.h"

// What the readers of files make of any bytes: a result, or an Error. With EPD_SANITIZE=fuzzer this is libFuzzer's
// program for the target that EPD_FUZZ_TARGET names; otherwise a test, which reads the corpus and damaged copies of it.

#ifdef EPD_LIBFUZZER

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const std::string target = std::getenv("EPD_FUZZ_TARGET");
  epd::read(target, {reinterpret_cast<const char*>(data), size});
  return 0;
}

#else

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <exception>
#include <filesystem>
#include <functional>
#include <new>
#include <random>
#include <utility>

#include "epd/files/zip.h"

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define EPD_FAILING_ALLOCATIONS
namespace {
long allocations_left = -1;  // until the one that fails; -1: none does
bool may_allocate() { return allocations_left < 0 || allocations_left-- != 0; }
}  // namespace
extern "C" {
void* __libc_malloc(std::size_t size);
void* __libc_calloc(std::size_t count, std::size_t size);
void* __libc_realloc(void* block, std::size_t size);
void* malloc(std::size_t size) noexcept { return may_allocate() ? __libc_malloc(size) : nullptr; }
void* calloc(std::size_t count, std::size_t size) noexcept {
  return may_allocate() ? __libc_calloc(count, size) : nullptr;
}
void* realloc(void* block, std::size_t size) noexcept { return may_allocate() ? __libc_realloc(block, size) : nullptr; }
}
#endif

namespace epd {
namespace {

/// corpus.zip has entries TARGET/NAME.
class Corpus : public ::testing::Test {
 protected:
  void for_each(const std::function<void(const std::string& target, const std::string& bytes)>& visit) const {
    for (std::size_t i = 0; i < zip_.size(); ++i) {
      const std::string& name = zip_.entries()[i].name;
      SCOPED_TRACE(name);
      visit(name.substr(0, name.find('/')), zip_.read(i));
      if (HasFatalFailure()) return;
    }
  }

 private:
  const ZipReader zip_{std::filesystem::path(EPD_SOURCE_DIR) / "tests/fuzz/corpus.zip"};
};

TEST_F(Corpus, IsReadOrRefusedAndSoAreDamagedCopies) {
  std::map<std::string, int> files;
  std::mt19937 rng(1);
  for_each([&](const std::string& target, std::string bytes) {
    ++files[target];
    ASSERT_NO_THROW(read(target, bytes));
    for (std::size_t size = 0; size < std::min<std::size_t>(bytes.size(), 16); ++size) {
      ASSERT_NO_THROW(read(target, bytes.substr(0, size)));
    }
    for (int damage = 0; damage < 10 && !bytes.empty(); ++damage) {
      bytes[rng() % bytes.size()] = static_cast<char>(rng());
      ASSERT_NO_THROW(read(target, bytes));
      ASSERT_NO_THROW(read(target, bytes.substr(0, rng() % bytes.size())));
    }
  });
  for (const auto& [target, read_it] : kTargets) EXPECT_GT(files[target], 0) << target;
}

#ifdef EPD_FAILING_ALLOCATIONS
enum Ending { kAllocated = 0, kRefused = 1, kChanged = 2 };

/// How a process ends that makes the call while its n-th allocation fails, as its exit code.
int ending(const std::function<std::optional<std::string>()>& call, const std::optional<std::string>& whole, long n) {
  const pid_t child = ::fork();
  if (child == 0) {
    std::set_terminate([] { ::_exit(kRefused); });  // of nlohmann's destructors, which allocate; as in run_main
    std::optional<std::string> result;
    allocations_left = n;
    try {
      result = call();
    } catch (const std::bad_alloc&) {
    }
    const bool failed = std::exchange(allocations_left, -1) < 0;
    ::_exit(result && result != whole ? kChanged : failed ? kRefused : kAllocated);
  }
  int status = -1;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

TEST_F(Corpus, IsReadOrRefusedAndNeverAsSomethingElseWithoutMemory) {
  std::map<std::string, int> files;
  for_each([&](const std::string& target, const std::string& bytes) {
    // libtiff, libwebp and the filter of .xz in libarchive use some of what they could not allocate.
    if (target == "tiff" || target == "webp" ||
        bytes.starts_with("\xFD"
                          "7zXZ"))
      return;
    const auto whole = read(target, bytes);
    if (!whole || files[target]++ >= 5) return;
    int code = kRefused;
    for (long n = 0; code == kRefused && n < 400; ++n) {
      code = ending([&] { return read(target, bytes); }, whole, n);
      ASSERT_TRUE(code == kRefused || code == kAllocated) << "allocation " << n << ": " << code;
    }
  });
}
#endif

}  // namespace
}  // namespace epd

#endif
