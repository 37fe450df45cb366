#pragma once

#include <string>
#include <vector>

#include "epd/evaluation/compare.h"

namespace epd {

/// The comparison as a Markdown table, aligned so that it reads well in a terminal too.
std::string comparison_table(const std::vector<CompareRow>& rows);

/// {"rows": [{solver, schedule, nfe, evaluations, rmse, fd_exact, fd_data, images_per_second}]}.
std::string comparison_json(const std::vector<CompareRow>& rows);

/// A row of images per row of the table, the same seeds above each other, each row with its name: the reference, then
/// the others by rising RMSE, at most `max_rows` in all (0: all). Where there are more, the learned ones stay and the
/// classical ones are spread evenly from the best to the worst. Images below 64 pixels are enlarged to at least that,
/// a whole number of times.
Image comparison_image(const Comparison& comparison, int max_rows);

/// The comparison as a figure (SVG, light or dark as the reader's page): RMSE and Frechet distance to the reference,
/// against NFE and against total evaluations, a line for each family: the rows of a classical solver on one schedule,
/// or predictors of one name. Both scales of quality are logarithmic; rows without an error, such as the reference,
/// are left out.
std::string comparison_chart(const std::vector<CompareRow>& rows);

}  // namespace epd
