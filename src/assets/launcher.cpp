#include "epd/assets/launcher.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <thread>

#include "epd/assets/paths.h"
#include "epd/core/error.h"
#include "epd/core/interrupt.h"
#include "epd/files/file_lock.h"

extern char** environ;  // NOLINT: POSIX names it so

namespace epd {
namespace {

namespace fs = std::filesystem;

/// The file whose lock the one process holds that fills the cache.
FileLock open_cache_lock() {
  const auto path = cache_dir() / ".lock";
  std::error_code ignored;  // the next line fails then
  fs::create_directories(cache_dir(), ignored);
  FileLock lock(path);
  EPD_REQUIRE(lock.is_open(), "cannot write to ", path.string(), ": ", std::strerror(errno),
              "; name another folder with EPD_CACHE");
  return lock;
}

void wait_until(const std::function<bool()>& done) {
  while (!done()) {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    check_interrupt();
  }
}

/// Starts the command in a process group of its own, without input, its output on stderr.
pid_t start(const std::vector<std::string>& command) {
  std::vector<char*> words;
  for (const auto& word : command) words.push_back(const_cast<char*>(word.c_str()));  // posix_spawn does not write
  words.push_back(nullptr);
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&files, STDERR_FILENO, STDOUT_FILENO);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);
  pid_t id = -1;
  const int failure = posix_spawn(&id, words[0], &files, &attributes, words.data(), environ);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&files);
  EPD_REQUIRE(failure == 0, "EPD_LAUNCHER: cannot run ", command[0], ": ", std::strerror(failure));
  return id;
}

}  // namespace

void make_if_missing(const fs::path& file, const std::vector<std::string>& arguments) {
  const char* launcher = std::getenv("EPD_LAUNCHER");
  if (fs::exists(file) || !launcher || !*launcher) return;
  const FileLock lock = open_cache_lock();
  wait_until([&] { return lock.acquire(); });
  if (fs::exists(file)) return;
  std::vector<std::string> command{launcher};
  command.insert(command.end(), arguments.begin(), arguments.end());
  const pid_t id = start(command);
  try {
    wait_until([&] { return ::waitpid(id, nullptr, WNOHANG) != 0; });
  } catch (...) {
    ::kill(-id, SIGTERM);
    ::waitpid(id, nullptr, 0);
    throw;
  }
}

}  // namespace epd
