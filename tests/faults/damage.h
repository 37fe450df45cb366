#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "epd/core/error.h"
#include "epd/images/image_source.h"

namespace epd::test {

/// What a reader makes of the bytes, as text to compare; throws Error where it refuses them.
using Read = std::function<std::string(const std::string& bytes)>;

/// Damages of every kind: a flipped bit anywhere, a zeroed block, two blocks swapped, a cut end.
inline std::string damaged(const std::string& whole, std::mt19937& rng) {
  std::string bytes = whole;
  const std::size_t place = rng() % bytes.size(), other = rng() % bytes.size();
  const std::size_t block = std::min<std::size_t>(64, bytes.size() - std::max(place, other));
  switch (rng() % 8) {
    case 0:
      bytes.resize(place);
      break;
    case 1:
      std::fill_n(bytes.begin() + static_cast<std::ptrdiff_t>(place), block, '\0');
      break;
    case 2:
      for (std::size_t i = 0; i < block; ++i) std::swap(bytes[place + i], bytes[other + i]);
      break;
    default:
      bytes[place] = static_cast<char>(bytes[place] ^ (1 << (rng() % 8)));
  }
  return bytes;
}

/// Refused in one line, or read as `truth`, or read as something else with a warning. Returns whether it is refused.
inline bool is_refused(const std::string& bytes, const Read& read, const std::string& truth, const std::string& what) {
  try {
    if (read(bytes) == truth) return false;
    testing::internal::CaptureStderr();
    read(bytes);
    EXPECT_NE(testing::internal::GetCapturedStderr(), "") << what << " reads something else";
    return false;
  } catch (const Error& e) {
    EXPECT_EQ(std::string(e.what()).find('\n'), std::string::npos) << e.what();
    return true;
  }
}

inline void expect_no_silent_change(const std::string& whole, const Read& read, int trials, const std::string& what) {
  const std::string truth = read(whole);
  std::mt19937 rng(19);
  int refused = 0;
  for (int trial = 0; trial < trials && !testing::Test::HasFailure(); ++trial) {
    refused += is_refused(damaged(whole, rng), read, truth, text(what, ": trial ", trial));
  }
  EXPECT_GT(refused, trials / 2) << what;
}

inline Image colourful() {
  Image image(12, 9, 3);
  std::mt19937 rng(1);
  for (auto& value : image.pixels) value = static_cast<std::uint8_t>(rng());
  return image;
}

inline std::string pixels_of(const Image& image) { return std::string(image.pixels.begin(), image.pixels.end()); }

/// Pixels and labels of all images of a source, whatever their order.
inline std::string images_of(const std::filesystem::path& path) {
  const auto source = open_image_source(path, {.labels_matter = true});
  std::vector<std::string> images;
  for (std::size_t i = 0; i < source->size(); ++i) {
    images.push_back(text(source->label(i).value_or(-1), ' ') + pixels_of(source->load(i)));
  }
  std::ranges::sort(images);
  std::string result;
  for (const auto& image : images) result += image + '\n';
  return result;
}

}  // namespace epd::test
