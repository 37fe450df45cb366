#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "epd/images/image_source.h"

/// The kinds of ImageSource; open_image_source chooses.
namespace epd {

std::unique_ptr<ImageSource> open_image_folder(const std::filesystem::path& folder, Alpha alpha);
std::unique_ptr<ImageSource> open_image_zip(const std::filesystem::path& path, Alpha alpha);
/// An .npy, or an .npz by its "arr_0" or only array.
std::unique_ptr<ImageSource> open_image_array(const std::filesystem::path& path);
/// The training pictures of CIFAR-10 from cifar-10-python.tar.gz, whose pickles are read as data.
std::unique_ptr<ImageSource> open_image_cifar(const std::filesystem::path& path);

/// Sorts out the names of a folder or archive.
class PictureNames {
 public:
  /// Whether the name (a path with '/') is a picture to be read; keeps count of what is not.
  bool accept(const std::string& name);
  /// One warning for all that was left out.
  void warn(const std::filesystem::path& where) const;

 private:
  std::size_t hidden_ = 0;
  std::size_t others_ = 0;
  std::string first_other_;
};

inline constexpr std::string_view kLabelFile = "dataset.json";

/// name -> class from a dataset.json's text; empty where labels are null or (with a warning) not to be understood.
std::unordered_map<std::string, int> parse_labels(std::string_view json, const std::string& where);

}  // namespace epd
