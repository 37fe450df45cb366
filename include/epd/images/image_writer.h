#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "epd/files/atomic_file.h"
#include "epd/images/image.h"
#include "epd/images/png.h"

namespace epd {

/// Where encoded images go. ImageWriter calls it from its threads.
class ImageSink {
 public:
  virtual ~ImageSink() = default;
  /// Stores the bytes of one image. Called from several threads at once unless needs_order().
  virtual void write(const std::string& name, std::string_view bytes) = 0;
  /// True: write() is called in the order of the pushes, one call at a time.
  virtual bool needs_order() const = 0;
  /// Called once after the last write, when all went well.
  virtual void finish() {}
};

/// Files below `folder`, each whole or absent (by rename, without fsync). Sub folders in names are created as needed.
/// A name that leaves the folder is refused.
std::unique_ptr<ImageSink> folder_sink(const std::filesystem::path& folder);

/// Entries of one zip archive in the order of the pushes, which appears at finish().
std::unique_ptr<ImageSink> zip_sink(const std::filesystem::path& path, Durability durability = Durability::kRename);

struct ImageWriterOptions {
  int threads = 2;            // that encode and write
  std::size_t capacity = 64;  // images waiting; push() blocks beyond
  int png_level = kDefaultPngLevel;
};

/// Encodes images as PNG and stores them in threads of its own. At most capacity + threads images are held.
/// The first failure is kept: from then on push() and finish() throw it (it names the file), and what waits is dropped.
class ImageWriter {
 public:
  ImageWriter(std::unique_ptr<ImageSink> sink, ImageWriterOptions options = {});
  /// Without finish(): drops what waits, ends the threads after the image that each has in hand.
  ~ImageWriter();
  ImageWriter(const ImageWriter&) = delete;
  ImageWriter& operator=(const ImageWriter&) = delete;

  /// Takes a image; waits while the queue is full.
  void push(std::string name, Image image, PngText text = {});
  /// The same for a file that is complete already, such as a .npy.
  void push_bytes(std::string name, std::string bytes);
  /// Waits until everything pushed is stored, then finishes the sink.
  void finish();
  /// Images stored so far.
  std::size_t written() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace epd
