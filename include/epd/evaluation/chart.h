#pragma once

#include <string>
#include <vector>

#include "epd/evaluation/compare.h"

namespace epd {

/// The comparison as a figure (SVG): RMSE and Frechet distance to the exact images, against NFE and against all
/// evaluations, a line for each family: the rows of a classical solver on one schedule, or predictors of one name. Both
/// scales of quality are logarithmic; rows without an error, such as the exact one, are left out.
std::string comparison_chart(const std::vector<CompareRow>& rows);

}  // namespace epd
