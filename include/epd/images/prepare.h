#pragma once

#include <cstddef>
#include <filesystem>
#include <optional>
#include <string>

#include "epd/core/options.h"
#include "epd/files/json.h"
#include "epd/images/image_source.h"

namespace epd {

/// How pictures are brought to the resolution.
enum class Crop {
  kNone,           // scaled, whatever their proportions
  kCenterCrop,     // their largest central square is scaled
  kCenterCropWide  // their central part of the resolution's proportions, between black bars that make it a square
};
inline constexpr NameTable<Crop, 3> kCropNames{
    {{"none", Crop::kNone}, {"center-crop", Crop::kCenterCrop}, {"center-crop-wide", Crop::kCenterCropWide}}};

constexpr const auto& names_of(Crop) { return kCropNames; }

struct PrepareOptions {
  struct Resolution {
    int width = 0, height = 0;
  };
  static constexpr int kMaxSide = 16384;

  std::filesystem::path source;          // folder, zip, npy, npz or cifar-10-python.tar.gz
  std::filesystem::path dest;            // .zip
  std::optional<Resolution> resolution;  // unset: the pictures' own
  Crop transform = Crop::kNone;
  std::optional<std::size_t> max_images;  // the first of them; unset: all
  Alpha alpha = Alpha::kDrop;
  OnBad on_bad = OnBad::kStop;
  int workers = 2;             // threads that decode and resize
  std::filesystem::path json;  // where the record is written; empty: nowhere

  /// "64x48" or "64,48": width, then height. Throws UsageError for anything else.
  static Resolution parse_resolution(const std::string& value);
  const PrepareOptions& validated() const;  // *this, or throws UsageError
};

template <>
struct OptionValue<PrepareOptions::Resolution> {
  static constexpr auto kKind = Option::Kind::kText;
  static std::string type() { return "WxH"; }
  static PrepareOptions::Resolution read(const std::string& word, const std::string&) {
    return PrepareOptions::parse_resolution(word);
  }
  static std::string write(const PrepareOptions::Resolution& r) { return text(r.width, "x", r.height); }
};

Options options_of(PrepareOptions& options);

/// Makes a dataset in the form of EDM's and StyleGAN's tools: a zip archive, nothing in it compressed again, of PNGs
/// 00000/img00000000.png and so on, with their classes in dataset.json. As in EDM's tool the images are all grey or all
/// RGB (both crops make RGB of grey). The bytes depend on the images and options alone; the archive appears whole or
/// not at all. Classes come from the source's dataset.json, which must be usable, in a folder without one from the
/// names of its top folders, in order. An image without a class leaves all without (with a warning). Images smaller
/// than a wide crop are left out, and those that cannot be read where `on_bad` says so. Throws Error, naming the image,
/// for one that cannot be read, or whose size is another than the first's where no resolution is given. Returns the
/// record: what was made of what, and how.
Json prepare_dataset(const PrepareOptions& options);

}  // namespace epd
