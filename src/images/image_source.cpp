#include "epd/images/image_source.h"

#include <algorithm>
#include <cctype>
#include <nlohmann/json.hpp>

#include "epd/core/error.h"
#include "epd/core/log.h"
#include "epd/images/jpeg.h"
#include "epd/images/png.h"
#include "image_sources.h"

namespace epd {
namespace {

std::string lower_case_extension(const std::string& name) {
  std::string extension = std::filesystem::path(name).extension().string();
  std::ranges::transform(extension, extension.begin(), [](unsigned char c) { return std::tolower(c); });
  return extension;
}

bool is_hidden(const std::string& name) {
  for (const auto& part : std::filesystem::path(name)) {
    if ((part.string().starts_with('.') && part != ".") || part == "__MACOSX") return true;
  }
  return false;
}

}  // namespace

bool PictureNames::accept(const std::string& name) {
  if (is_hidden(name)) {
    ++hidden_;
    return false;
  }
  const std::string extension = lower_case_extension(name);
  if (extension == ".png" || extension == ".jpg" || extension == ".jpeg") return true;
  if (name == kLabelFile) return false;
  if (others_++ == 0) first_other_ = name;
  return false;
}

void PictureNames::warn(const std::filesystem::path& where) const {
  if (others_ > 0) {
    log::warning(where.string(), ": ", others_, " files that are neither .png, .jpg nor .jpeg are ignored (",
                 first_other_, others_ > 1 ? ", ...)" : ")");
  }
  if (hidden_ > 0) log::info(where.string(), ": ", hidden_, " hidden files are ignored");
}

std::unordered_map<std::string, int> parse_labels(std::string_view json, const std::string& where) {
  std::unordered_map<std::string, int> result;
  const auto document = nlohmann::json::parse(json, nullptr, false);
  const bool usable = document.is_object() && document.contains("labels");
  if (usable && document["labels"].is_null()) return result;
  bool good = usable && document["labels"].is_array();
  for (std::size_t i = 0; good && i < document["labels"].size(); ++i) {
    const auto& pair = document["labels"][i];
    good = pair.is_array() && pair.size() == 2 && pair[0].is_string() && pair[1].is_number_integer();
    if (good) result[pair[0].get<std::string>()] = pair[1].get<int>();
  }
  if (good) return result;
  log::warning(where, ": its labels are not understood, expected {\"labels\": [[name, class], ...]}; none are used");
  return {};
}

Image decode_image(std::string_view bytes, const std::string& name, Alpha alpha) {
  EPD_REQUIRE(!bytes.empty(), "cannot read the picture ", name, ": it is empty");
  if (bytes.starts_with("\x89PNG\r\n\x1a\n")) return decode_png(bytes, name, alpha);
  if (bytes.starts_with("\xff\xd8")) return decode_jpeg(bytes, name);
  throw Error(text("cannot read the picture ", name, ": it is neither PNG nor JPEG"));
}

std::unique_ptr<ImageSource> open_image_source(const std::filesystem::path& path, Alpha alpha) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  EPD_REQUIRE(std::filesystem::exists(status), "pictures: ", path.string(), " does not exist");
  if (std::filesystem::is_directory(status)) return open_image_folder(path, alpha);
  const std::string extension = lower_case_extension(path.filename().string());
  if (extension == ".npy" || extension == ".npz") return open_image_array(path);
  if (path.filename().string().ends_with(".tar.gz")) return open_image_cifar(path);
  EPD_REQUIRE(extension == ".zip", "pictures: ", path.string(),
              " is neither a folder nor a .zip, .npz or .npy file nor CIFAR-10's .tar.gz");
  return open_image_zip(path, alpha);
}

}  // namespace epd
