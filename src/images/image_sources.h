#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "epd/images/image_source.h"

/// The kinds of ImageSource and of image file with a source file of their own; open_image_source chooses.
namespace epd {

/// An .npy, or an .npz by its "arr_0" or only array.
std::unique_ptr<ImageSource> open_image_array(const std::filesystem::path& path);
/// The training pictures of CIFAR-10 from cifar-10-python.tar.gz, whose pickles are read as data.
std::unique_ptr<ImageSource> open_image_cifar(const std::filesystem::path& path);

/// A JPEG as RGB, pixel for pixel as Pillow (libjpeg-turbo's default settings; grey repeated). `name` stands in
/// errors. CMYK, corrupt data and a file that ends early throw Error.
Image decode_jpeg(std::string_view bytes, const std::string& name);

}  // namespace epd
