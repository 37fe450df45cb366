#include "address.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <functional>
#include <memory>

namespace epd {
namespace {

/// Calls `use(socket, address)` for each address of the host until one returns true.
bool any_address(const std::string& host, std::uint16_t port, int type,
                 const std::function<bool(int socket, const addrinfo& address)>& use) {
  addrinfo hints{};
  hints.ai_socktype = type;
  addrinfo* found = nullptr;
  if (getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found) != 0) return false;
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owner(found, freeaddrinfo);
  for (const addrinfo* address = found; address != nullptr; address = address->ai_next) {
    const int handle = socket(address->ai_family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (handle < 0) continue;
    const bool done = use(handle, *address);
    close(handle);
    if (done) return true;
  }
  return false;
}

}  // namespace

std::string resolution_error(const std::string& host) {
  addrinfo* found = nullptr;
  const int error = getaddrinfo(host.c_str(), nullptr, nullptr, &found);
  if (error != 0) return gai_strerror(error);
  freeaddrinfo(found);
  return {};
}

bool accepts_connections(const std::string& host, std::uint16_t port) {
  constexpr int kPatienceInMilliseconds = 2000;
  return any_address(host, port, SOCK_STREAM, [](int handle, const addrinfo& address) {
    if (connect(handle, address.ai_addr, address.ai_addrlen) == 0) return true;
    pollfd writable{handle, POLLOUT, 0};
    if (poll(&writable, 1, kPatienceInMilliseconds) != 1) return false;
    int error = 0;
    socklen_t length = sizeof error;
    return getsockopt(handle, SOL_SOCKET, SO_ERROR, &error, &length) == 0 && error == 0;
  });
}

std::string local_address_towards(const std::string& host) {
  constexpr std::uint16_t kAnyPort = 9;  // connecting a datagram socket chooses the interface and sends nothing
  std::string result = "127.0.0.1";
  any_address(host, kAnyPort, SOCK_DGRAM, [&](int handle, const addrinfo& address) {
    sockaddr_storage local{};
    socklen_t length = sizeof local;
    std::array<char, NI_MAXHOST> name{};
    if (connect(handle, address.ai_addr, address.ai_addrlen) != 0) return false;
    if (getsockname(handle, reinterpret_cast<sockaddr*>(&local), &length) != 0) return false;
    if (getnameinfo(reinterpret_cast<sockaddr*>(&local), length, name.data(), name.size(), nullptr, 0,
                    NI_NUMERICHOST) != 0) {
      return false;
    }
    result = name.data();
    return true;
  });
  return result;
}

bool is_loopback(const std::string& address) { return address == "::1" || address.rfind("127.", 0) == 0; }

std::string host_name() {
  std::array<char, 256> name{};
  return gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "unknown host";
}

}  // namespace epd
