#include "epd/sampling/output_layout.h"

#include <string_view>

#include "epd/core/error.h"

namespace epd {
namespace {

/// The number in at least six digits.
std::string six_digits(std::uint64_t number) {
  const std::string digits = std::to_string(number);
  return digits.size() < 6 ? std::string(6 - digits.size(), '0') + digits : digits;
}

std::string seed_file(std::uint64_t seed, bool subdirs, std::string_view ending) {
  const std::string name = text(six_digits(seed), ending);
  return subdirs ? text(six_digits(seed - seed % 1000), '/', name) : name;
}

bool is_kept_as_png(SampleFormat format) { return format == SampleFormat::kPng || format == SampleFormat::kZip; }

}  // namespace

std::string OutputLayout::image_name(std::uint64_t seed) const { return seed_file(seed, subdirs, ".png"); }

std::string OutputLayout::image_file(std::uint64_t seed) const {
  const std::string name = is_kept_as_png(format) ? image_name(seed) : seed_file(seed, subdirs, ".npy");
  return is_packed() ? ".parts/" + name : name;
}

std::string OutputLayout::states_file(std::uint64_t seed) const { return "inters/" + seed_file(seed, subdirs, ".npy"); }

std::vector<std::filesystem::path> OutputLayout::packed_files() const {
  std::vector<std::filesystem::path> files;
  if (grid) files.push_back(folder / "grid.png");
  switch (format) {
    case SampleFormat::kPng:
      break;
    case SampleFormat::kZip:
      files.push_back(folder / "images.zip");
      break;
    case SampleFormat::kNpz:
      files.push_back(folder / "images.npz");
      break;
    case SampleFormat::kRaw:
      files.push_back(folder / "images.npy");
      break;
  }
  return files;
}

}  // namespace epd
