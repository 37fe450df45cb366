#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <string>

#include "epd/files/npz.h"

namespace epd {

/// Mean and covariance of a network's features over a set of pictures, and where they come from.
struct Statistics {
  at::Tensor mu;           // [F] float64
  at::Tensor sigma;        // [F, F] float64, symmetric; divisor count - 1
  std::int64_t count = 0;  // pictures; 0: unknown (files of other programs)
  std::string detector;    // name of the network; empty: unknown
  std::string detector_sha256;
  std::string source;  // the pictures

  std::int64_t num_features() const { return mu.size(0); }
};

/// Throws Error, beginning with `where`, unless mu is [F] and sigma [F, F], all finite, sigma symmetric (to 1e-6 of its
/// largest entry) and without a clearly negative eigenvalue (below -1e-6 of its Frobenius norm).
void require_valid(const Statistics& statistics, const std::string& where);

/// Reads the statistics that this program, EDM, pytorch-fid or another wrote: an .npz with `mu` and `sigma` of any
/// float type, order and compression; count, detector, detector_sha256 and source where they are there. Throws Error
/// that names the file and the array.
Statistics read_statistics(const std::filesystem::path& path);

/// Them as the arrays of an .npz that NumPy reads with pickles off (EDM's loader too): mu and sigma as float64, the
/// rest and this program's version as arrays of one number or text.
Arrays statistics_arrays(const Statistics& statistics);

/// Throws Error unless the two come from the same network: equal numbers of features and, where both are known, equal
/// detectors (by hash, else by name).
void require_same_detector(const Statistics& statistics, const Statistics& reference);

}  // namespace epd
