#pragma once

#include <cstddef>
#include <deque>
#include <exception>
#include <filesystem>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "epd/core/options.h"
#include "epd/core/thread_pool.h"
#include "epd/images/image.h"
#include "epd/images/png.h"

namespace epd {

/// Help texts of options that name images.
inline constexpr const char* kImagesHelp =
    "images: a folder (recursive), a zip or tar, an npy or npz of uint8 [N, H, W, C], or cifar-10-python.tar.gz";
inline constexpr const char* kTransparencyHelp = "transparent pixels: drop the alpha channel, or blend with white";

/// How images are read.
struct ImageReading {
  Alpha alpha = Alpha::kDrop;
  Channels channels = Channels::kRgb;
  bool labels_matter = false;  // classes that cannot be used are an Error, not a remark
};

inline constexpr const char* kOnBadHelp = "at an image that cannot be read: stop, or skip and count it";

/// Images to be read, in a fixed order that no file system decides.
class ImageSource {
 public:
  virtual ~ImageSource() = default;
  virtual std::size_t size() const = 0;
  /// The image's path below the folder or inside the archive, or "arr_0[17]".
  virtual const std::string& name(std::size_t i) const = 0;
  /// The image as RGB, or grey where the reading asks for it. Safe in any thread. Throws Error naming the file.
  virtual Image load(std::size_t i) const = 0;
  /// The class that dataset.json gives the image, or CIFAR-10, or an .npz in an integer array "arr_1" or "labels" of
  /// as many entries; nothing where there is none.
  virtual std::optional<int> label(std::size_t i) const = 0;
  /// How many of the images loaded so far have an EXIF orientation other than that in which they are stored.
  virtual std::size_t turned() const { return 0; }
};

/// Warns, once the images are read, of those whose orientation was not applied. `name` is the source's.
void remark_on_orientation(const ImageSource& source, const std::string& name);

/// Images of a folder (recursive), a zip or tar archive, a uint8 array [N, H, W, C] in an .npy or .npz ("arr_0", or its
/// only array), or the training set in CIFAR-10's cifar-10-python.tar.gz. In folders and archives: names ending in
/// .png, .jpg, .jpeg, .jpe, .jfif, .webp, .bmp, .tif, .tiff, .gif, .ppm or .pgm in any case, sorted as strings; hidden
/// files and __MACOSX are skipped; other files, what is no regular file (pipes, sockets, devices, links to nothing) and
/// names that appear more than once are named in one warning each. Labels come from a dataset.json at the top,
/// {"labels": [[name, class], ...]}. Throws Error when the path is missing, unreadable or holds no image.
std::unique_ptr<ImageSource> open_image_source(const std::filesystem::path& path, const ImageReading& reading = {});

/// Decodes a PNG, JPEG, WebP, BMP, TIFF, GIF (the first image of the latter two), PPM or PGM by its first bytes,
/// whatever its name says, pixel for pixel as Pillow's convert("RGB"). Grey stays grey, where it may, in PNG, JPEG,
/// TIFF and PGM. Throws Error naming it for anything else, and for what would differ from Pillow (16-bit BMP and TIFF,
/// animated WebP).
Image decode_image(std::string_view bytes, const std::string& name, Alpha alpha = Alpha::kDrop,
                   Channels channels = Channels::kRgb);

/// Another source, whose images that cannot be read are empty instead of an Error.
class ReadableImages : public ImageSource {
 public:
  explicit ReadableImages(const ImageSource& source) : source_(source) {}
  std::size_t size() const override { return source_.size(); }
  const std::string& name(std::size_t i) const override { return source_.name(i); }
  std::optional<int> label(std::size_t i) const override { return source_.label(i); }
  Image load(std::size_t i) const override;
  /// The images that were tried and cannot be read, with the reason.
  std::map<std::size_t, std::string> unreadable() const {
    const std::lock_guard lock(mutex_);
    return unreadable_;
  }

 private:
  const ImageSource& source_;
  mutable std::mutex mutex_;
  mutable std::map<std::size_t, std::string> unreadable_;
};

struct PrefetchOptions {
  int threads = 2;
  std::size_t window = 64;  // images decoded or being decoded ahead of the puller
};

/// Decodes images ahead in worker threads and hands them out in order, one by one. Memory: at most `window` images. One
/// thread pulls. The source must outlive it. Its end stops the workers at once.
class Prefetcher {
 public:
  struct Item {
    std::size_t index = 0;  // of the source
    Image image;
  };

  Prefetcher(const ImageSource& source, std::vector<std::size_t> indices, PrefetchOptions options = {});

  /// The next image, nothing after the last. Throws what reading that very image threw, and then always again.
  std::optional<Item> next();

 private:
  void fill_window();

  const ImageSource& source_;
  const std::vector<std::size_t> indices_;
  const std::size_t window_;
  std::size_t next_ = 0;                  // the position in indices_ that is handed out next
  std::deque<std::future<Image>> ahead_;  // the images from there on
  std::exception_ptr failure_;
  ThreadPool pool_;  // last, so that its threads end first
};

}  // namespace epd
