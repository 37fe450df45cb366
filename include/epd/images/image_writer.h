#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "epd/images/image.h"
#include "epd/images/image_sink.h"
#include "epd/images/png.h"

namespace epd {

struct ImageWriterOptions {
  int threads = 2;            // that encode and write
  std::size_t capacity = 64;  // pictures waiting; push() blocks beyond
  int png_level = kDefaultPngLevel;
};

/// Encodes pictures as PNG and stores them in threads of its own. At most capacity + threads pictures are held.
/// The first failure is kept: from then on push() and finish() throw it (it names the file), and what waits is dropped.
class ImageWriter {
 public:
  ImageWriter(std::unique_ptr<ImageSink> sink, ImageWriterOptions options = {});
  /// Without finish(): drops what waits, ends the threads after the picture that each has in hand.
  ~ImageWriter();
  ImageWriter(const ImageWriter&) = delete;
  ImageWriter& operator=(const ImageWriter&) = delete;

  /// Takes a picture; waits while the queue is full.
  void push(std::string name, Image image, PngText text = {});
  /// The same for a file that is complete already, such as a .npy.
  void push_bytes(std::string name, std::string bytes);
  /// Waits until everything pushed is stored, then finishes the sink.
  void finish();
  /// Pictures stored so far.
  std::size_t written() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace epd
