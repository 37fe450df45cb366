#include "epd/schedule/time_steps.h"

#include <cmath>
#include <utility>

#include "epd/core/error.h"

namespace epd {

TimeSteps::TimeSteps(std::vector<double> t) : t_(std::move(t)) {
  EPD_REQUIRE(t_.size() >= 2, "a time grid needs at least 2 points, got ", t_.size());
  for (std::size_t i = 0; i < t_.size(); ++i) {
    EPD_REQUIRE(std::isfinite(t_[i]) && t_[i] > 0, "time grid: point ", i, " is ", t_[i], ", not a positive number");
    EPD_REQUIRE(i == 0 || t_[i] < t_[i - 1], "time grid: point ", i, " is ", t_[i], ", not below ", t_[i - 1]);
  }
}

}  // namespace epd
