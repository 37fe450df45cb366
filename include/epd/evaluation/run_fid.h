#pragma once

#include <c10/core/Device.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "epd/images/image_source.h"
#include "epd/images/png.h"
#include "epd/metrics/scorer.h"
#include "epd/metrics/scores.h"

namespace epd {

class ProcessGroup;

/// What `fid calc` and `fid ref` share: which images, and which network looks at them.
struct PictureOptions {
  std::filesystem::path path;      // folder, zip, npy or npz of images
  std::optional<std::size_t> num;  // this many of them, chosen by `seed`; unset: all
  std::uint32_t seed = 0;          // of NumPy's RandomState, as EDM chooses
  std::string detector;            // file or name; empty: the reference's, else inception
  std::int64_t chunk = 0;          // images in one forward; 0: the detector's default
  Alpha alpha = Alpha::kDrop;
  ImagePass pass;

  const PictureOptions& validated() const;  // *this, or throws UsageError
};

struct CalcOptions {
  PictureOptions pictures;
  std::filesystem::path reference;  // statistics (.npz), or images
  Metrics metrics;
  std::filesystem::path json, report;  // the record, and a page (HTML); empty: none
};

struct RefOptions {
  PictureOptions pictures;
  std::filesystem::path dest;
  bool save_features = false;
};

Options options_of(PictureOptions& options);
Options options_of(CalcOptions& options);
Options options_of(RefOptions& options);

struct CalcResult {
  Scores scores;  // on the root
  Json record;    // the scores, and all that they depend on
};

/// Throws Error now, not after the work, where the file could not be written; creates its folder.
void prepare_output(const std::filesystem::path& path);
/// Writes the file; "-" and the names of stdout are stdout.
void write_output(const std::filesystem::path& path, const std::string& bytes);

/// Scores the images against the reference. Whatever can be refused is, before a network is fetched or runs. Called by
/// all processes.
CalcResult run_calc(const CalcOptions& options, ProcessGroup& group, at::Device device);

/// Writes the statistics of the images, whole or not at all. Called by all processes.
void run_ref(const RefOptions& options, ProcessGroup& group, at::Device device);

/// A set of images, or statistics alone, as a report shows it.
struct ImageSet {
  FeatureSet data;
  std::shared_ptr<const ImageSource> source;  // none where only statistics are known
  std::vector<std::size_t> indices;           // of the source's images, in the order of the features
};

/// One HTML file that needs no other: the scores with their meaning and direction, a random grid of generated beside
/// real images, generated images beside the real ones that are nearest to them in feature space (memorised training
/// images show up there), the spectra of both covariances, and `record`, the settings, with the detector's limits. What
/// needs images or features that are not there says so. The same inputs give the same page. Throws Error for images
/// that cannot be read.
std::string report_page(const Scores& scores, const ImageSet& generated, const ImageSet& reference, const Json& record);

}  // namespace epd
