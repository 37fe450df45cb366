#pragma once

#include <filesystem>
#include <memory>

#include "epd/images/image_source.h"

/// The kinds of ImageSource with a file of their own; open_image_source chooses.
namespace epd {

/// An .npy, or an .npz by its "arr_0" or only array.
std::unique_ptr<ImageSource> open_image_array(const std::filesystem::path& path);
/// The training pictures of CIFAR-10 from cifar-10-python.tar.gz, whose pickles are read as data.
std::unique_ptr<ImageSource> open_image_cifar(const std::filesystem::path& path);

}  // namespace epd
