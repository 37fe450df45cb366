#include "fuzz/targets.h"

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "epd/core/error.h"
#include "epd/core/log.h"
#include "epd/core/seeds.h"
#include "epd/documents/manifest.h"
#include "epd/documents/model_facts_json.h"
#include "epd/documents/plan_json.h"
#include "epd/documents/predictor_json.h"
#include "epd/files/atomic_file.h"
#include "epd/files/npz.h"
#include "epd/files/options_json.h"
#include "epd/files/pickle.h"
#include "epd/files/tar.h"
#include "epd/images/image_source.h"
#include "epd/images/prepare.h"
#include "epd/text/clip_tokenizer.h"
#include "epd/text/prompts.h"

namespace epd {
namespace {

namespace fs = std::filesystem;

/// Below a folder in memory that this process alone uses.
fs::path file(const std::string& name, std::string_view bytes) {
  static const fs::path folder = [] {
    const fs::path made = text("/dev/shm/epd-fuzz-", ::getpid());
    fs::create_directories(made);
    std::atexit([] { fs::remove_all(text("/dev/shm/epd-fuzz-", ::getpid())); });
    return made;
  }();
  write_file(folder / name, bytes);
  return folder / name;
}

std::string pixels_of(const Image& image) {
  return text(image.height, ' ', image.width, ' ', image.channels, ' ') +
         std::string(image.pixels.begin(), image.pixels.end());
}

std::string image(std::string_view bytes) {
  std::string result;
  for (const auto alpha : {Alpha::kDrop, Alpha::kWhite}) {
    result += pixels_of(decode_image(bytes, "image", alpha, Channels::kGreyStaysGrey));
  }
  return result;
}

std::uint32_t crc_of(std::string_view bytes) {
  std::uint32_t crc = ~0u;
  for (const unsigned char byte : bytes) {
    crc ^= byte;
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0u);
  }
  return ~crc;
}

/// A PNG whose chunks get the checksums of what they hold, so that what they hold is read.
std::string png(std::string_view bytes) {
  std::string fixed(bytes);
  const auto byte = [&](std::size_t i) { return static_cast<std::uint32_t>(static_cast<unsigned char>(fixed[i])); };
  for (std::size_t i = 8; i + 12 <= fixed.size();) {
    const std::size_t length = byte(i) << 24 | byte(i + 1) << 16 | byte(i + 2) << 8 | byte(i + 3);
    if (length > fixed.size() - i - 12) break;
    const std::uint32_t crc = crc_of(std::string_view(fixed).substr(i + 4, length + 4));
    for (std::size_t b = 0; b < 4; ++b) fixed[i + 8 + length + b] = static_cast<char>(crc >> (24 - 8 * b));
    i += 12 + length;
  }
  return image(fixed) + encode_png(decode_png(fixed, "image"), {{"seed", "7"}});
}

/// All files of an archive; where one is damaged, the others are read too.
template <class Reader, class Read>
std::string files_of(const Reader& reader, const Read& read) {
  std::string result;
  std::optional<Error> first;
  for (std::size_t i = 0; i < reader.entries().size(); ++i) {
    try {
      result += reader.entries()[i].name + read(i);
    } catch (const Error& e) {
      if (!first) first = e;
    }
  }
  if (first) throw *first;
  return result;
}

std::string zip(std::string_view bytes) {
  const ZipReader reader(file("a.zip", bytes));
  return files_of(reader, [&](std::size_t i) { return reader.read_start(i, 100) + reader.read(i, 1 << 20); });
}

std::string tar(std::string_view bytes) {
  const TarReader reader(file("a.tar", bytes));
  return files_of(reader, [&](std::size_t i) { return reader.read(i, 1 << 20); });
}

std::string images_of(const fs::path& path) {
  const auto source = open_image_source(path);
  std::string result = text(source->size(), ' ');
  for (std::size_t i = 0; i < std::min<std::size_t>(source->size(), 4); ++i) {
    result += text(source->name(i), ' ', source->label(i).value_or(-1), ' ') + pixels_of(source->load(i));
  }
  return result;
}

std::string array_text(const Array& array) {
  if (array.is_text()) return array.as_text();
  std::string result;
  for (const double value : array.as_doubles()) result += text(value, ' ');
  return result;
}

std::string npz(std::string_view bytes) {
  const NpzReader reader(file("a.npz", bytes));
  std::string result;
  Arrays arrays;
  for (const auto& name : reader.names()) arrays[name] = reader.read(name);
  for (const auto& [name, array] : arrays) result += name + array_text(array);
  write_npz(file("written.npz", ""), arrays);
  return result + read_file(file("a.npz", "").parent_path() / "written.npz");
}

/// The labels of a dataset of one image.
std::string labels(std::string_view bytes) {
  static const std::string image = encode_png(Image(1, 1, 3));
  const auto path = file("labels.zip", "");
  ZipWriter writer(path);
  writer.add("a.png", image);
  writer.add("dataset.json", bytes);
  writer.finish();
  return text(open_image_source(path, {.labels_matter = true})->label(0).value_or(-1));
}

std::string options_from(const Json& settings) {
  PrepareOptions prepare;
  auto options = options_of(prepare);
  set_options(options, settings);
  options.check();
  return json_text(options_json(options));
}

std::string config(std::string_view bytes) {
  const auto settings = Json::parse(bytes, nullptr, /*allow_exceptions=*/false, /*ignore_comments=*/true);
  EPD_REQUIRE(settings.is_object(), "not an object");
  return options_from(settings);
}

std::string toml(std::string_view bytes) {
  auto settings = Json::object();
  auto stream = stream_of(std::string(bytes));
  try {
    for (const auto& item : CLI::ConfigTOML().from_config(stream)) settings[item.name] = item.inputs;
  } catch (const CLI::Error& e) {
    throw Error(e.what());
  }
  return options_from(settings);
}

std::string plan(std::string_view bytes) {
  const auto file = parse_plan(bytes, "plan");
  return plan_json(file.plan, file.solver, 1, file.clock);
}

std::string tokens_of(const ClipTokenizer& tokenizer, std::string_view bytes) {
  std::string result;
  for (const auto token : tokenizer.encode(bytes)) result += text(token, ' ');
  return result;
}

std::string tokenizer(std::string_view bytes) {
  static const auto tokenizer = [] {
    const auto path = file("vocab.json", R"({"a":0, "a</w>":1, "ab</w>":2, "<|startoftext|>":3, "<|endoftext|>":4})");
    file("merges.txt", "#version\na b</w>\n");
    return ClipTokenizer::read(path.parent_path());
  }();
  return tokens_of(tokenizer, bytes);
}

/// vocab.json and merges.txt, with a zero byte between.
std::string vocabulary(std::string_view bytes) {
  const auto cut = std::min(bytes.find('\0'), bytes.size());
  const auto path = file("vocab.json", bytes.substr(0, cut));
  file("merges.txt", bytes.substr(std::min(cut + 1, bytes.size())));
  return tokens_of(ClipTokenizer::read(path.parent_path()), "a photo ab");
}

std::string captions(std::string_view bytes) {
  const auto prompts = Prompts::read(file("a.csv", bytes));
  std::string result;
  for (std::size_t i = 0; i < prompts.size(); ++i) result += prompts.for_seed(i) + '\n';
  return result;
}

}  // namespace

const std::map<std::string, Target> kTargets{
    {"bmp", image},
    {"config", config},
    {"csv", captions},
    {"facts", [](std::string_view b) { return model_facts_text(parse_model_facts(b, "facts")); }},
    {"gif", image},
    {"images-npy", [](std::string_view b) { return images_of(file("images.npy", b)); }},
    {"images-npz", [](std::string_view b) { return images_of(file("images.npz", b)); }},
    {"jpeg", image},
    {"labels", labels},
    {"manifest",
     [](std::string_view b) { return manifest_text(*read_manifest(file("manifest.json", b).parent_path())); }},
    {"npy", [](std::string_view b) { return array_text(decode_npy(b, "array")); }},
    {"npz", npz},
    {"pickle", [](std::string_view b) { return text(static_cast<int>(Pickle(b, "pickle").root().kind)); }},
    {"plan", plan},
    {"png", png},
    {"ppm", image},
    {"predictor", [](std::string_view b) { return predictor_text(parse_predictor(b, "predictor")); }},
    {"seeds", [](std::string_view b) { return seeds_text(parse_seeds(b)); }},
    {"tar", tar},
    {"tiff", image},
    {"tokenizer", tokenizer},
    {"toml", toml},
    {"vocabulary", vocabulary},
    {"webp", image},
    {"zip", zip},
};

std::optional<std::string> read(const std::string& target, std::string_view bytes) {
  log::set_level(log::Level::kError);  // not a line for each damaged JPEG
  try {
    return kTargets.at(target)(bytes);
  } catch (const Error&) {
    return std::nullopt;
  }
}

}  // namespace epd
