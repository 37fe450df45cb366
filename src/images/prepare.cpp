#include "epd/images/prepare.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <numeric>
#include <set>
#include <utility>
#include <vector>

#include "epd/core/error.h"
#include "epd/core/interrupt.h"
#include "epd/core/log.h"
#include "epd/core/progress.h"
#include "epd/core/run_main.h"
#include "epd/images/image.h"
#include "epd/images/image_source.h"
#include "epd/images/image_writer.h"

namespace epd {
namespace {

namespace fs = std::filesystem;

using Labels = std::vector<std::optional<int>>;

Image cropped(const Image& image, int top, int left, int height, int width) {
  Image result(height, width, image.channels);
  for (int y = 0; y < height; ++y) {
    std::memcpy(result.row(y), image.row(top + y) + left * image.channels, result.row_bytes());
  }
  return result;
}

Image center_crop(const Image& image, const PrepareOptions::Resolution& wanted) {
  const int side = std::min(image.height, image.width);
  const auto square = cropped(image, (image.height - side) / 2, (image.width - side) / 2, side, side);
  return to_rgb(resize(square, wanted.height, wanted.width));
}

/// An empty picture where the given one is too small.
Image center_crop_wide(const Image& image, const PrepareOptions::Resolution& wanted) {
  // Halves go to the even neighbour, as NumPy rounds.
  const int height = static_cast<int>(std::nearbyint(static_cast<double>(wanted.width) * image.height / image.width));
  if (image.width < wanted.width || height < wanted.height) return {};
  const auto rows = cropped(image, (image.height - height) / 2, 0, height, image.width);
  const auto part = to_rgb(resize(rows, wanted.height, wanted.width));
  Image square(wanted.width, wanted.width, 3, 0);
  const int top = (wanted.width - wanted.height) / 2;
  std::copy(part.pixels.begin(), part.pixels.end(), square.row(top));
  return square;
}

/// The pictures of another source after crop and resize, empty where they are left out; the work is done in load(), so
/// in the threads that decode.
class TransformedImages : public ImageSource {
 public:
  TransformedImages(const ImageSource& source, const PrepareOptions& options) : source_(source), options_(options) {}
  std::size_t size() const override { return source_.size(); }
  const std::string& name(std::size_t i) const override { return source_.name(i); }
  std::optional<int> label(std::size_t i) const override { return source_.label(i); }
  Image load(std::size_t i) const override {
    auto image = source_.load(i);
    if (!options_.resolution || image.pixels.empty()) return image;
    const auto& wanted = *options_.resolution;
    switch (options_.transform) {
      case Crop::kNone:
        return resize(image, wanted.height, wanted.width);
      case Crop::kCenterCrop:
        return center_crop(image, wanted);
      case Crop::kCenterCropWide:
        return center_crop_wide(image, wanted);
    }
    throw Error("a crop without a meaning");
  }

 private:
  const ImageSource& source_;
  const PrepareOptions& options_;
};

/// Folders in the order of their paths' parts (a/b before a-1), which numbers the pictures as EDM's tool does.
std::vector<std::size_t> order_of(const ImageSource& source, const fs::path& path) {
  std::vector<std::size_t> order(source.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  if (!fs::is_directory(path)) return order;
  std::ranges::sort(order, {}, [&](std::size_t i) { return fs::path(source.name(i)); });
  return order;
}

/// The classes that the names of the top folders stand for; nothing where there is but one.
Labels labels_of_folders(const ImageSource& source) {
  const auto top = [&](std::size_t i) {
    const auto& name = source.name(i);
    const auto slash = name.find('/');
    return slash == name.npos ? std::string() : name.substr(0, slash);
  };
  std::set<std::string> names;
  for (std::size_t i = 0; i < source.size(); ++i) names.insert(top(i));
  Labels labels(source.size());
  if (names.size() < 2) return labels;
  std::map<std::string, int> numbers;
  for (const auto& name : names) numbers.emplace(name, static_cast<int>(numbers.size()));
  for (std::size_t i = 0; i < source.size(); ++i) labels[i] = numbers.at(top(i));
  return labels;
}

Labels labels_of(const ImageSource& source, const fs::path& path) {
  Labels labels;
  for (std::size_t i = 0; i < source.size(); ++i) labels.push_back(source.label(i));
  const bool none = std::ranges::none_of(labels, [](const auto& label) { return label.has_value(); });
  return none && fs::is_directory(path) ? labels_of_folders(source) : labels;
}

std::string name_of_picture(std::size_t number) {
  char digits[32];
  std::snprintf(digits, sizeof(digits), "%08zu", number);
  return text(std::string(digits, 5), "/img", digits, ".png");
}

/// The pictures in order, checked and written.
class Dataset {
 public:
  Dataset(const PrepareOptions& options, const ImageSource& source)
      : options_(options), source_(source), labels_(labels_of(source, options.source)) {
    order_ = order_of(source, options.source);
    if (options.max_images) order_.resize(std::min(*options.max_images, order_.size()));
  }

  Json write() {
    const ReadableImages readable(source_);
    const bool skip = options_.on_bad == OnBad::kSkip;
    const TransformedImages transformed(skip ? static_cast<const ImageSource&>(readable) : source_, options_);
    ImageWriter writer(zip_sink(options_.dest, Durability::kSync));
    Progress progress("preparing " + options_.source.string(), static_cast<std::int64_t>(order_.size()), "images");
    const auto threads = options_.workers;
    Prefetcher prefetcher(transformed, order_, {.threads = threads, .window = 32 * static_cast<std::size_t>(threads)});
    while (auto item = prefetcher.next()) {
      check_interrupt();
      progress.advance();
      if (item->image.pixels.empty()) {
        ++left_out_;
        continue;
      }
      require_same_kind(item->image, item->index);
      written_labels_.push_back(labels_[item->index]);
      writer.push(name_of_picture(written_labels_.size() - 1), std::move(item->image));
    }
    progress.finish();
    unreadable_ = readable.unreadable();
    left_out_ -= unreadable_.size();
    warn_of_unreadable();
    EPD_REQUIRE(!written_labels_.empty(), options_.source.string(), ": no images remain; ", unreadable_.size(),
                " cannot be read, ", left_out_, " are too small for the crop");
    writer.push_bytes("dataset.json", labels_json());
    writer.finish();
    warn();
    return record();
  }

 private:
  std::string resolution_text() const {
    return options_.resolution ? text(options_.resolution->width, 'x', options_.resolution->height) : "";
  }

  void require_same_kind(const Image& image, std::size_t index) {
    if (written_labels_.empty()) {
      channels_ = image.channels;
      height_ = image.height;
      width_ = image.width;
      first_ = index;
    }
    EPD_REQUIRE(image.height == height_ && image.width == width_, source_.name(index), " is ", image.width, "x",
                image.height, ", but ", source_.name(first_), " is ", width_, "x", height_,
                "; use --resolution to resize them");
    const auto kind = [](int channels) { return channels == 1 ? "grey" : "RGB"; };
    EPD_REQUIRE(image.channels == channels_, source_.name(index), " is ", kind(image.channels), ", but ",
                source_.name(first_), " is ", kind(channels_),
                "; a dataset is all grey or all RGB (--transform center-crop makes RGB)");
  }

  void warn_of_unreadable() const {
    if (unreadable_.empty()) return;
    log::warning(options_.source.string(), ": ", unreadable_.size(), " of ", order_.size(),
                 " images are skipped: ", unreadable_.begin()->second, unreadable_.size() > 1 ? ", ..." : "");
  }

  bool has_labels() const {
    return std::ranges::all_of(written_labels_, [](const auto& label) { return label.has_value(); });
  }

  /// As Python's json.dumps writes it.
  std::string labels_json() const {
    if (!has_labels()) return R"({"labels": null})";
    auto list = Json::array();
    for (std::size_t i = 0; i < written_labels_.size(); ++i) {
      list.push_back(Json::array({name_of_picture(i), *written_labels_[i]}));
    }
    return json_line({{"labels", list}});
  }

  void warn() const {
    const auto& source = options_.source;
    remark_on_orientation(source_, source.string());
    const auto labelled = std::ranges::count_if(written_labels_, [](const auto& label) { return label.has_value(); });
    if (labelled > 0 && !has_labels()) {
      log::warning(source.string(), ": ", written_labels_.size() - static_cast<std::size_t>(labelled), " of ",
                   written_labels_.size(), " images have no class, so none is stored");
    }
    if (left_out_ > 0) {
      log::warning(source.string(), ": ", left_out_, " images are smaller than ", resolution_text(), " and skipped");
    }
    if (height_ != width_ || !std::has_single_bit(static_cast<unsigned>(width_))) {
      log::warning("the images are ", width_, "x", height_,
                   "; EDM's training needs square images with a power-of-two size");
    }
  }

  Json record() const {
    return {{"dest", options_.dest.string()},
            {"source", options_.source.string()},
            {"num_images", written_labels_.size()},
            {"left_out", left_out_},
            {"unreadable", unreadable_.size()},
            {"labels", has_labels()},
            {"channels", channels_},
            {"width", width_},
            {"height", height_},
            {"transform", name_of(kCropNames, options_.transform)},
            {"resize", options_.resolution ? Json(resize_method()) : Json()},
            {"alpha", name_of(kAlphaNames, options_.alpha)},
            {"version", text("epd ", version())}};
  }

  const PrepareOptions& options_;
  const ImageSource& source_;
  const Labels labels_;
  std::vector<std::size_t> order_;
  Labels written_labels_;
  std::size_t left_out_ = 0, first_ = 0;
  std::map<std::size_t, std::string> unreadable_;
  int height_ = 0, width_ = 0, channels_ = 0;
};

}  // namespace

PrepareOptions::Resolution PrepareOptions::parse_resolution(const std::string& value) {
  Resolution result;
  char between = 0, rest = 0;
  const int found = std::sscanf(value.c_str(), "%6d%c%6d%c", &result.width, &between, &result.height, &rest);
  EPD_REQUIRE_USAGE(found == 3 && (between == 'x' || between == ',') && result.width > 0 && result.height > 0,
                    "resolution: expected width and height such as 64x64, got '", value, "'");
  EPD_REQUIRE_USAGE(result.width <= kMaxSide && result.height <= kMaxSide, "resolution: expected at most ", kMaxSide,
                    "x", kMaxSide, ", got '", value, "'");
  return result;
}

Options options_of(PrepareOptions& o) {
  return Options("Dataset")
      .add("source", o.source, help(kImagesHelp).reads().as("PATH").needed())
      .add("dest", o.dest, help("the .zip file to write").writes().needed())
      .add("resolution", o.resolution, help("width and height to resize to").otherwise("no resizing"))
      .add("transform", o.transform, help("crop before resizing"))
      .add("max_images", o.max_images, help("number of images, from the first on").in(at_least(1)).otherwise("all"))
      .add("transparency,alpha", o.alpha, help(kTransparencyHelp))
      .add("on_bad", o.on_bad, help(kOnBadHelp))
      .add("workers", o.workers, help("threads that decode and resize images").in(between(1, 1024)))
      .add("json", o.json, help("write a record of the dataset and the settings to this JSON file").writes());
}

namespace {

bool is_zip_name(const fs::path& path) {
  std::string ending = path.extension().string();
  std::ranges::transform(ending, ending.begin(), [](unsigned char c) { return std::tolower(c); });
  return ending == ".zip";
}

}  // namespace

const PrepareOptions& PrepareOptions::validated() const {
  PrepareOptions copy = *this;
  options_of(copy).check();
  EPD_REQUIRE_USAGE(is_zip_name(dest), "dest: expected the name of a .zip, got '", dest.string(), "'");
  EPD_REQUIRE_USAGE(transform == Crop::kNone || resolution, "transform: ", name_of(kCropNames, transform),
                    " needs a --resolution");
  EPD_REQUIRE_USAGE(transform != Crop::kCenterCropWide || resolution->height <= resolution->width,
                    "resolution: center-crop-wide makes images that are wider than high, got ", resolution->width, "x",
                    resolution->height);
  return *this;
}

Json prepare_dataset(const PrepareOptions& options) {
  options.validated();
  const auto source = open_image_source(
      options.source, {.alpha = options.alpha, .channels = Channels::kGreyStaysGrey, .labels_matter = true});
  return Dataset(options, *source).write();
}

}  // namespace epd
