#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "epd/core/names.h"
#include "epd/documents/manifest.h"
#include "epd/files/file_lock.h"

namespace epd {

/// How images are kept: a folder of PNGs; one zip of PNGs; one .npz (arr_0: uint8 [N, H, W, C], seeds, labels); or one
/// .npy of what the network made, float32 [N, C, H, W], before it becomes pixels.
enum class SampleFormat { kPng, kZip, kNpz, kRaw };
inline constexpr NameTable<SampleFormat, 4> kSampleFormatNames{{
    {"png", SampleFormat::kPng},
    {"zip", SampleFormat::kZip},
    {"npz", SampleFormat::kNpz},
    {"raw", SampleFormat::kRaw},
}};

/// Which files a run makes, and what they are called. Every image is first a file of its own: so a run that was stopped
/// loses no finished image, and any number of processes can share the work. What is asked for as one file (zip, npz,
/// raw, a grid) is put together from them at the end, and the single files, in the hidden folder `.parts`, go.
struct OutputLayout {
  std::filesystem::path folder;
  SampleFormat format = SampleFormat::kPng;
  bool grid = false;         // one picture of all images, grid.png, in place of the folder of PNGs
  bool subdirs = true;       // a sub folder for every 1000 seeds
  bool save_inters = false;  // the states at all grid points, inters/<seed>.npy, float32 [N, C, H, W]

  /// Whether the images end up in files of many.
  bool is_packed() const { return format != SampleFormat::kPng || grid; }
  /// The file of one image below `folder`: 000000/000042.png.
  std::string image_file(std::uint64_t seed) const;
  /// Its name in the folder of PNGs or in the zip.
  std::string image_name(std::uint64_t seed) const;
  std::string states_file(std::uint64_t seed) const;
  std::filesystem::path parts_folder() const { return folder / ".parts"; }
  /// The files of many images: grid.png, images.zip, images.npz, images.npy.
  std::vector<std::filesystem::path> packed_files() const;
};

/// A run's folder: its own, as long as this lives, and with images of one kind of run only.
class OutputFolder {
 public:
  struct Options {
    bool resume = true;      // keep finished images; without it, a folder that has some is refused
    bool overwrite = false;  // remove what earlier runs left: only files that a run of this program makes
  };

  /// Makes the folder ready: creates and locks it, compares `manifest` with what stands there, removes what unfinished
  /// writes left, and writes the manifest. Throws Error for a folder that cannot be written, is in use, or holds images
  /// of another run.
  OutputFolder(OutputLayout layout, Manifest manifest, Options options);

  /// Those of the seeds whose files are not all there, in the order given.
  std::vector<std::uint64_t> missing(const std::vector<std::uint64_t>& seeds) const;
  /// Whether the files of many images are all there.
  bool is_packed_already() const;

 private:
  void require_no_stranger(const Manifest& manifest) const;
  void require_nothing_finished() const;
  void remove_images() const;
  void remove_unfinished_files() const;

  OutputLayout layout_;
  std::unique_ptr<FolderLock> lock_;
};

}  // namespace epd
