#pragma once

#include <sys/types.h>

#include <chrono>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace epd::test {

using Environment = std::map<std::string, std::string>;

/// How one process of a job ended.
struct Ended {
  int exit_code = -1;  // 128 + s after signal s, as a shell says
  std::string output, errors;
};

/// A child process with this environment on top of ours (launcher variables of ours removed).
class Child {
 public:
  Child(const std::vector<std::string>& command, const Environment& environment, const std::string& folder);
  /// Kills what still runs.
  ~Child();
  Child(Child&& other) noexcept;
  Child& operator=(Child&&) = delete;

  void signal(int number) const;
  bool runs() const;
  /// Waits until it has written this much to stdout or stderr.
  void await_output(const std::string& text) const;
  /// Waits for the end, at most this long (then kills it and reports 137).
  Ended wait(std::chrono::seconds patience);

 private:
  pid_t id_ = -1;
  std::string output_path_, error_path_;
};

std::uint16_t free_port();

/// The variables of rank `rank` as torchrun sets them.
Environment rank_variables(int rank, int size, std::uint16_t port);

/// Starts a process for every rank of a job, each with its variables, and waits for their ends.
std::vector<Ended> run_job(int size, const std::function<Child(const Environment&)>& start,
                           std::chrono::seconds patience = std::chrono::seconds(120));

/// All ranks' stderr in one.
std::string all_errors(const std::vector<Ended>& ranks);

/// How many lines begin with "error: ".
int error_lines(const std::string& errors);

}  // namespace epd::test
