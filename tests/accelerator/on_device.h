#pragma once

#include <c10/core/impl/VirtualGuardImpl.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "apps/families.h"
#include "epd/images/png.h"
#include "support/standin_accelerator.h"

namespace epd::test {

namespace fs = std::filesystem;

inline const at::Device kStandin(at::kPrivateUse1, 0);

/// Work of the product on the stand-in, in this process: it leaves no memory behind, uses no other device, and never
/// one memory out of order.
class OnDevice : public ::testing::Test {
 protected:
  OnDevice() {
    ::setenv("EPD_CACHE", (folder_ / "cache").c_str(), 1);
    standin::reset_counts();
  }
  ~OnDevice() override {
    c10::impl::VirtualGuardImpl(kStandin.type()).synchronizeDevice(0);  // memory that copies still used
    EXPECT_EQ(standin::settled_bytes(0), 0);
    EXPECT_EQ(standin::stats(0).violations, 0);
    for (int device = 1; device < standin::num_devices(); ++device) EXPECT_FALSE(standin::stats(device).used);
  }

  /// What the work does to the device.
  static standin::Stats counted(const std::function<void()>& work) {
    standin::reset_counts();
    work();
    return standin::stats(0);
  }

  TemporaryFolder folder_;
  const std::shared_ptr<ProcessGroup> alone_ = ProcessGroup::alone();
};

/// Every file below a folder but the record: name and bytes.
inline std::map<std::string, std::string> files_below(const fs::path& folder) {
  std::map<std::string, std::string> result;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_directory() || entry.path().filename() == "manifest.json") continue;
    result[fs::relative(entry.path(), folder).string()] = read_file(entry.path());
  }
  return result;
}

/// The largest difference between two images, in levels of 0 to 255.
inline int difference(const Image& a, const Image& b) {
  EXPECT_EQ(a.pixels.size(), b.pixels.size());
  int largest = 0;
  for (std::size_t i = 0; i < std::min(a.pixels.size(), b.pixels.size()); ++i) {
    largest = std::max(largest, std::abs(int{a.pixels[i]} - int{b.pixels[i]}));
  }
  return largest;
}

/// The same arrays but for rounding: the sums of a step are in float64 on the CPU and in float32 elsewhere.
inline void expect_close(const Array& a, const Array& b, const std::string& name) {
  ASSERT_EQ(a.shape, b.shape) << name;
  const auto x = a.as_doubles(), y = b.as_doubles();
  const double tolerance = a.is_uint8() ? 1 : 2e-4;
  for (std::size_t i = 0; i < x.size(); ++i) ASSERT_NEAR(x[i], y[i], tolerance * (1 + std::abs(x[i]))) << name;
}

/// The files of two folders hold the same images.
inline void expect_same_images(const fs::path& a, const fs::path& b) {
  const auto ours = files_below(a), theirs = files_below(b);
  ASSERT_FALSE(ours.empty());
  ASSERT_EQ(ours.size(), theirs.size());
  for (const auto& [name, bytes] : ours) {
    const auto& other = theirs.at(name);
    if (name.ends_with(".png")) {
      EXPECT_LE(difference(decode_png(bytes, name), decode_png(other, name)), 1) << name;
    } else if (name.ends_with(".npy")) {
      expect_close(decode_npy(bytes, name), decode_npy(other, name), name);
    } else if (name.ends_with(".npz")) {
      const NpzReader x(a / name), y(b / name);
      ASSERT_EQ(x.names(), y.names());
      for (const auto& array : x.names()) expect_close(x.read(array), y.read(array), name + " " + array);
    } else if (name.ends_with(".zip")) {
      ZipReader x(a / name), y(b / name);
      ASSERT_EQ(x.entries().size(), y.entries().size());
      for (std::size_t i = 0; i < x.entries().size(); ++i) {
        const auto entry = x.entries()[i].name;
        EXPECT_EQ(entry, y.entries()[i].name);
        if (!entry.ends_with(".png")) continue;
        EXPECT_LE(difference(decode_png(x.read(i), entry), decode_png(y.read(i), entry)), 1) << entry;
      }
    } else {
      ADD_FAILURE() << name << " is no file of images";
    }
  }
}

}  // namespace epd::test
