#include "job_failure.h"

#include <sstream>

#include "epd/core/error.h"

namespace epd {

std::vector<std::uint8_t> encoded(const JobFailure& failure) {
  const auto record = text(failure.reporter, ' ', failure.exit_code, ' ', failure.reason);
  return {record.begin(), record.end()};
}

JobFailure decoded(const std::vector<std::uint8_t>& record) {
  JobFailure failure;
  std::istringstream in(std::string(record.begin(), record.end()));
  in >> failure.reporter >> failure.exit_code;
  in.get();
  std::getline(in, failure.reason, '\0');
  return failure;
}

std::string job_key::member(int rank) { return text("member/", rank); }
std::string job_key::arrivals(int rank) { return text("arrivals/", rank); }
std::string job_key::beat(int rank) { return text("beat/", rank); }

}  // namespace epd
