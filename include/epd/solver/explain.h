#pragma once

#include <string>

#include "epd/solver/plan.h"

namespace epd {

/// A plan as a table for people: a line per step with its interval, the noise levels that the network is told (parallel
/// points by commas, one forward after the other by "then"), the points of each forward, whether the first direction is
/// analytical or the mean's, its evaluations and the NFE so far; then the totals. Every evaluation counts `cost_factor`
/// times: 2 under classifier-free guidance, else 1.
std::string explain_table(const Plan<double>& plan, int cost_factor = 1);

}  // namespace epd
