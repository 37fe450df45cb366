#include "epd/images/image_writer.h"

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <functional>
#include <mutex>
#include <unordered_set>
#include <utility>

#include "epd/core/error.h"
#include "epd/core/thread_pool.h"
#include "epd/files/zip.h"

namespace epd {
namespace {

void require_inside(const std::string& name) {
  const std::filesystem::path path(name);
  bool inside = path.is_relative() && path.has_filename();
  for (const auto& part : path) inside = inside && part != "..";
  EPD_REQUIRE(inside, "an image's name must stay inside its folder, got '", name, "'");
}

class FolderSink : public ImageSink {
 public:
  explicit FolderSink(std::filesystem::path folder) : folder_(std::move(folder)) { create(folder_); }

  void write(const std::string& name, std::string_view bytes) override {
    require_inside(name);
    const auto path = folder_ / name;
    create(path.parent_path());
    write_file(path, bytes);
  }
  bool needs_order() const override { return false; }

 private:
  void create(const std::filesystem::path& folder) {
    const std::lock_guard lock(mutex_);
    if (created_.contains(folder.string())) return;
    std::error_code error;
    std::filesystem::create_directories(folder, error);
    EPD_REQUIRE(!error && std::filesystem::is_directory(folder, error), "cannot create the folder ", folder.string(),
                ": ", error ? error.message() : "a file of this name is in the way");
    created_.insert(folder.string());
  }

  std::filesystem::path folder_;
  std::mutex mutex_;
  std::unordered_set<std::string> created_;
};

class ZipSink : public ImageSink {
 public:
  ZipSink(const std::filesystem::path& path, Durability durability) : zip_(path, durability) {}

  void write(const std::string& name, std::string_view bytes) override {
    require_inside(name);
    zip_.add(name, bytes);
  }
  bool needs_order() const override { return true; }
  void finish() override { zip_.finish(); }

 private:
  ZipWriter zip_;
};

}  // namespace

std::unique_ptr<ImageSink> folder_sink(const std::filesystem::path& folder) {
  return std::make_unique<FolderSink>(folder);
}

std::unique_ptr<ImageSink> zip_sink(const std::filesystem::path& path, Durability durability) {
  return std::make_unique<ZipSink>(path, durability);
}

struct ImageWriter::State {
  const std::unique_ptr<ImageSink> sink;
  const int png_level;
  const std::size_t capacity;
  mutable std::mutex mutex;
  std::condition_variable changed;  // one of the following
  std::size_t pushed = 0, taken = 0, stored = 0;
  bool closed = false;    // nothing more comes
  bool finished = false;  // the sink is finished
  std::exception_ptr error;
  ThreadPool pool;  // last, so that its threads end first

  State(std::unique_ptr<ImageSink> to, const ImageWriterOptions& options)
      : sink(std::move(to)),
        png_level(options.png_level),
        capacity(std::max<std::size_t>(options.capacity, 1)),
        pool(static_cast<std::size_t>(std::max(options.threads, 1))) {}

  void push(std::string name, std::function<std::string()> encode) {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return error || pushed - taken < capacity; });
    if (error) std::rethrow_exception(error);
    EPD_REQUIRE(!closed, "cannot write ", name, ": the writer is finished");
    pool.submit([this, number = pushed++, name = std::move(name), encode = std::move(encode)] {
      if (!take()) return;
      try {
        store(number, name, encode());
      } catch (...) {
        fail(std::current_exception());
      }
    });
  }

  /// Room for another push. False: something failed, what waits is dropped.
  bool take() {
    const std::lock_guard lock(mutex);
    ++taken;
    changed.notify_all();
    return !error;
  }

  void store(std::size_t number, const std::string& name, const std::string& bytes) {
    if (sink->needs_order()) {
      // Jobs begin in order, so the one whose turn it is is always in some thread's hands.
      std::unique_lock lock(mutex);
      changed.wait(lock, [&] { return error || stored == number; });
      if (error) return;
    }
    sink->write(name, bytes);
    const std::lock_guard lock(mutex);
    ++stored;
    changed.notify_all();
  }

  void fail(std::exception_ptr failure) {
    const std::lock_guard lock(mutex);
    if (!error) error = std::move(failure);
    changed.notify_all();
  }
};

ImageWriter::ImageWriter(std::unique_ptr<ImageSink> sink, ImageWriterOptions options)
    : state_(std::make_unique<State>(std::move(sink), options)) {}

ImageWriter::~ImageWriter() = default;

void ImageWriter::push(std::string name, Image image, PngText text) {
  auto encode = [name, image = std::move(image), text = std::move(text), level = state_->png_level] {
    try {
      return encode_png(image, text, level);
    } catch (const Error& e) {
      throw Error(epd::text("cannot write ", name, ": ", e.what()));
    }
  };
  state_->push(std::move(name), std::move(encode));
}

void ImageWriter::push_bytes(std::string name, std::string bytes) {
  state_->push(std::move(name), [bytes = std::move(bytes)] { return bytes; });
}

void ImageWriter::finish() {
  State& state = *state_;
  std::unique_lock lock(state.mutex);
  state.closed = true;
  state.changed.wait(lock, [&] { return state.error || state.stored == state.pushed; });
  if (state.error) std::rethrow_exception(state.error);
  if (std::exchange(state.finished, true)) return;
  lock.unlock();
  try {
    state.sink->finish();
  } catch (...) {
    state.fail(std::current_exception());
    throw;
  }
}

std::size_t ImageWriter::written() const {
  const std::lock_guard lock(state_->mutex);
  return state_->stored;
}

}  // namespace epd
