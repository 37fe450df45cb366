#include "job.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <thread>
#include <utility>

namespace epd::test {
namespace {

using namespace std::chrono_literals;

std::string contents(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream out;
  out << file.rdbuf();
  return out.str();
}

int open_for_writing(const std::string& path) { return open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644); }

int exit_code(int status) { return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status); }

}  // namespace

Child::Child(const std::vector<std::string>& command, const Environment& environment, const std::string& folder) {
  static int number = 0;
  output_path_ = folder + "/out-" + std::to_string(++number);
  error_path_ = folder + "/err-" + std::to_string(number);
  const int out = open_for_writing(output_path_), err = open_for_writing(error_path_);
  id_ = fork();
  if (id_ == 0) {
    dup2(out, STDOUT_FILENO);
    dup2(err, STDERR_FILENO);
    for (const char* name : {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "SLURM_PROCID"}) {
      unsetenv(name);
    }
    setenv("OMP_NUM_THREADS", "1", 1);
    for (const auto& [name, value] : environment) setenv(name.c_str(), value.c_str(), 1);
    std::vector<char*> arguments;
    for (const auto& argument : command) arguments.push_back(const_cast<char*>(argument.c_str()));
    arguments.push_back(nullptr);
    execvp(arguments[0], arguments.data());
    _exit(127);
  }
  close(out);
  close(err);
}

Child::Child(Child&& other) noexcept
    : id_(std::exchange(other.id_, -1)), output_path_(other.output_path_), error_path_(other.error_path_) {}

Child::~Child() {
  if (id_ < 0) return;
  kill(id_, SIGKILL);
  waitpid(id_, nullptr, 0);
}

void Child::signal(int number) const { kill(id_, number); }

bool Child::runs() const {
  siginfo_t info{};
  return waitid(P_PID, static_cast<id_t>(id_), &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == 0;
}

void Child::await_output(const std::string& text) const {
  for (const auto until = std::chrono::steady_clock::now() + 60s; std::chrono::steady_clock::now() < until;) {
    if ((contents(output_path_) + contents(error_path_)).find(text) != std::string::npos) return;
    std::this_thread::sleep_for(10ms);
  }
  throw std::runtime_error("no '" + text + "' in the output; errors: " + contents(error_path_));
}

Ended Child::wait(std::chrono::seconds patience) {
  const auto until = std::chrono::steady_clock::now() + patience;
  int status = 0;
  while (waitpid(id_, &status, WNOHANG) == 0) {
    if (std::chrono::steady_clock::now() > until) {
      kill(id_, SIGKILL);
      waitpid(id_, &status, 0);
      break;
    }
    std::this_thread::sleep_for(5ms);
  }
  id_ = -1;
  return {exit_code(status), contents(output_path_), contents(error_path_)};
}

std::uint16_t free_port() {
  const int handle = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_ANY);
  socklen_t length = sizeof address;
  bind(handle, reinterpret_cast<sockaddr*>(&address), length);
  getsockname(handle, reinterpret_cast<sockaddr*>(&address), &length);
  close(handle);
  return ntohs(address.sin_port);
}

Environment rank_variables(int rank, int size, std::uint16_t port) {
  return {{"RANK", std::to_string(rank)},
          {"LOCAL_RANK", std::to_string(rank)},
          {"WORLD_SIZE", std::to_string(size)},
          {"MASTER_ADDR", "127.0.0.1"},
          {"MASTER_PORT", std::to_string(port)}};
}

std::vector<Ended> run_job(int size, const std::function<Child(const Environment&)>& start,
                           std::chrono::seconds patience) {
  const auto port = free_port();
  std::vector<Child> ranks;
  for (int rank = 0; rank < size; ++rank) ranks.push_back(start(rank_variables(rank, size, port)));
  std::vector<Ended> ended;
  for (auto& rank : ranks) ended.push_back(rank.wait(patience));
  return ended;
}

std::string all_errors(const std::vector<Ended>& ranks) {
  std::string result;
  for (const auto& rank : ranks) result += rank.errors;
  return result;
}

int error_lines(const std::string& errors) {
  int count = 0;
  std::istringstream lines(errors);
  for (std::string line; std::getline(lines, line);) count += line.rfind("error: ", 0) == 0;
  return count;
}

}  // namespace epd::test
