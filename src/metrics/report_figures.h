#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "epd/metrics/report.h"

/// The figures of a report, as HTML.
namespace epd {

/// A number with 4 significant digits.
std::string short_number(double value);

/// Random pictures of the set in a square.
std::string grid_figure(const PictureSet& set, const std::string& title);

/// Generated pictures beside their nearest real ones: the closest of all, and random ones.
std::string neighbour_figures(const PictureSet& generated, const PictureSet& reference);

/// Eigenvalues of both covariances against their number, both axes logarithmic.
std::string spectrum_figure(const Statistics& generated, const Statistics& reference);

}  // namespace epd
