#pragma once

#include <cstdint>
#include <string>

namespace epd {

/// Why the host's name does not resolve; empty where it does.
std::string resolution_error(const std::string& host);

/// Whether something accepts connections there.
bool accepts_connections(const std::string& host, std::uint16_t port);

/// The address of this machine's interface from which `host` is reached; "127.0.0.1" where that cannot be said.
std::string local_address_towards(const std::string& host);

bool is_loopback(const std::string& address);

std::string host_name();

}  // namespace epd
