#pragma once

#include <string>
#include <vector>

#include "epd/evaluation/compare.h"

namespace epd {

/// The comparison as a Markdown table, aligned so that it reads well in a terminal too.
std::string comparison_table(const std::vector<CompareRow>& rows);

/// {"rows": [{solver, schedule, nfe, evaluations, rmse, fd_exact, fd_data, images_per_second}]}.
std::string comparison_json(const std::vector<CompareRow>& rows);

/// A row of pictures per row of the table, the same seeds above each other, each row with its name.
Image comparison_picture(const Comparison& comparison);

}  // namespace epd
