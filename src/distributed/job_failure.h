#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace epd {

/// Why the job ends, as the first rank that noticed wrote it into the job's store. A code of 128 + s means signal s.
/// The reporter is -1 where the store was lost: then nobody else knows.
struct JobFailure {
  int reporter = 0;
  int exit_code = 1;
  std::string reason;
};

std::vector<std::uint8_t> encoded(const JobFailure& failure);
JobFailure decoded(const std::vector<std::uint8_t>& record);

/// The keys of the job's store.
namespace job_key {
inline const std::string kFailure = "failure", kSeenByRoot = "seen_by_root", kDone = "done", kLeft = "left";
std::string member(int rank);
std::string arrivals(int rank);
std::string beat(int rank);
}  // namespace job_key

}  // namespace epd
