#include "epd/images/image_writer.h"

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "epd/core/error.h"

namespace epd {

struct ImageWriter::State {
  struct Job {
    std::size_t number = 0;  // of the push
    std::string name;
    Image image;
    PngText text;
    std::optional<std::string> bytes;  // in place of an image: stored as they are
  };

  const std::unique_ptr<ImageSink> sink;
  const ImageWriterOptions options;
  const std::size_t capacity;
  mutable std::mutex mutex;
  std::condition_variable job_ready, room, stored_or_failed;
  std::deque<Job> jobs;
  std::size_t pushed = 0;
  std::size_t stored = 0;
  bool closed = false;    // nothing more comes: threads end when the queue is empty
  bool finished = false;  // the sink is finished
  std::exception_ptr error;
  std::vector<std::thread> threads;

  State(std::unique_ptr<ImageSink> s, ImageWriterOptions o)
      : sink(std::move(s)), options(o), capacity(std::max<std::size_t>(o.capacity, 1)) {}

  void work() {
    while (auto job = take()) {
      try {
        store(*job);
      } catch (...) {
        fail(std::current_exception());
        return;
      }
    }
  }

  std::unique_ptr<Job> take() {
    std::unique_lock lock(mutex);
    job_ready.wait(lock, [&] { return error || closed || !jobs.empty(); });
    if (error || jobs.empty()) return nullptr;
    auto job = std::make_unique<Job>(std::move(jobs.front()));
    jobs.pop_front();
    room.notify_one();
    return job;
  }

  void store(const Job& job) {
    const std::string png = encode(job);
    if (sink->needs_order()) {
      // Jobs are taken in order, so the one whose turn it is is always in some thread's hands.
      std::unique_lock lock(mutex);
      stored_or_failed.wait(lock, [&] { return error || stored == job.number; });
      if (error) return;
    }
    sink->write(job.name, png);
    {
      const std::lock_guard lock(mutex);
      ++stored;
    }
    stored_or_failed.notify_all();
  }

  void push(Job job) {
    std::unique_lock lock(mutex);
    room.wait(lock, [&] { return error || jobs.size() < capacity; });
    if (error) std::rethrow_exception(error);
    EPD_REQUIRE(!closed, "cannot write ", job.name, ": the writer is finished");
    job.number = pushed++;
    jobs.push_back(std::move(job));
    lock.unlock();
    job_ready.notify_one();
  }

  std::string encode(const Job& job) const {
    if (job.bytes) return *job.bytes;
    try {
      return encode_png(job.image, job.text, options.png_level);
    } catch (const Error& e) {
      throw Error(epd::text("cannot write ", job.name, ": ", e.what()));
    }
  }

  void fail(std::exception_ptr failure) {
    {
      const std::lock_guard lock(mutex);
      if (!error) error = std::move(failure);
      jobs.clear();
    }
    job_ready.notify_all();
    room.notify_all();
    stored_or_failed.notify_all();
  }
};

ImageWriter::ImageWriter(std::unique_ptr<ImageSink> sink, ImageWriterOptions options)
    : state_(std::make_unique<State>(std::move(sink), options)) {
  for (int i = 0; i < std::max(options.threads, 1); ++i) {
    state_->threads.emplace_back([state = state_.get()] { state->work(); });
  }
}

ImageWriter::~ImageWriter() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->closed = true;
    state_->jobs.clear();
  }
  state_->job_ready.notify_all();
  for (auto& thread : state_->threads) thread.join();
}

void ImageWriter::push(std::string name, Image image, PngText text) {
  state_->push({0, std::move(name), std::move(image), std::move(text), {}});
}

void ImageWriter::push_bytes(std::string name, std::string bytes) {
  state_->push({0, std::move(name), {}, {}, std::move(bytes)});
}

void ImageWriter::finish() {
  State& state = *state_;
  std::unique_lock lock(state.mutex);
  state.closed = true;
  state.job_ready.notify_all();
  state.stored_or_failed.wait(lock, [&] { return state.error || state.stored == state.pushed; });
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
