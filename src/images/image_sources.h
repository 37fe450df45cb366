#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "epd/images/image_source.h"

/// The kinds of ImageSource and of image file with a source file of their own; open_image_source chooses.
namespace epd {

/// An .npy, or an .npz by its "arr_0" or only array.
std::unique_ptr<ImageSource> open_image_array(const std::filesystem::path& path, const ImageReading& reading);
/// The training pictures of CIFAR-10 from cifar-10-python.tar.gz, whose pickles are read as data; null for another
/// archive.
std::unique_ptr<ImageSource> open_image_cifar(const std::filesystem::path& path);

/// A JPEG as RGB (or grey), pixel for pixel as Pillow's convert("RGB") (libjpeg-turbo's default settings; CMYK taken
/// for Adobe's, which is stored inverted). `name` stands in errors. Corrupt data and a file that ends early throw
/// Error.
Image decode_jpeg(std::string_view bytes, const std::string& name, Channels channels = Channels::kRgb);

/// The first image of a TIFF of at most 8 bits a sample, as RGB, grey or RGBA.
Image decode_tiff(std::string_view bytes, const std::string& name);

/// RGBA laid on white, rounded to the nearest.
Image on_white(const Image& rgba);

/// Whether decode_image knows files of this ending (".png").
bool is_image_name(std::string_view lower_case_extension);

/// The orientation that a JPEG's EXIF gives, 1 (as it is stored) to 8; 1 where there is none.
int exif_orientation(std::string_view jpeg);

/// Says why classes cannot be used: an Error where they matter.
void refuse_labels(const std::string& why, const ImageReading& reading);

}  // namespace epd
