#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "epd/documents/manifest.h"
#include "epd/files/file_lock.h"
#include "epd/sampling/output_layout.h"

namespace epd {

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
