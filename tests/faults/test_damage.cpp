#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <random>
#include <string>

#include "epd/core/error.h"
#include "epd/documents/predictor_json.h"
#include "epd/documents/training_state.h"
#include "epd/files/npz.h"
#include "epd/images/png.h"
#include "support/test_files.h"

// A damaged file is refused, or what is read from it is what was written: never something else without a word.
// JPEG, .npy, JSON and captions have no checksum, so that only their structure can be checked.

namespace epd {
namespace {

using test::TemporaryFolder;

/// What a reader makes of the bytes, as text to compare; throws Error where it refuses them.
using Read = std::function<std::string(const std::string& bytes)>;

/// Damages of every kind: a flipped bit anywhere, a zeroed block, a cut end.
std::string damaged(const std::string& whole, std::mt19937& rng) {
  std::string bytes = whole;
  const std::size_t place = rng() % bytes.size();
  switch (rng() % 8) {
    case 0:
      bytes.resize(place);
      break;
    case 1:
      for (std::size_t i = place; i < std::min(place + 64, bytes.size()); ++i) bytes[i] = '\0';
      break;
    default:
      bytes[place] = static_cast<char>(bytes[place] ^ (1 << (rng() % 8)));
  }
  return bytes;
}

void expect_no_silent_change(const std::string& whole, const Read& read, int trials, const std::string& what) {
  const std::string truth = read(whole);
  std::mt19937 rng(19);
  int refused = 0;
  for (int trial = 0; trial < trials; ++trial) {
    const std::string bytes = damaged(whole, rng);
    try {
      ASSERT_EQ(read(bytes) == truth, true) << what << ": trial " << trial << " reads something else";
    } catch (const Error& e) {
      ++refused;
      EXPECT_EQ(std::string(e.what()).find('\n'), std::string::npos) << e.what();
    }
  }
  EXPECT_GT(refused, trials / 2) << what;
}

Image colourful() {
  Image image(12, 9, 3);
  std::mt19937 rng(1);
  for (auto& value : image.pixels) value = static_cast<std::uint8_t>(rng());
  return image;
}

std::string pixels_of(const Image& image) { return std::string(image.pixels.begin(), image.pixels.end()); }

TEST(Damage, APngIsRefusedOrTheSame) {
  const Read drop = [](const std::string& bytes) { return pixels_of(decode_png(bytes, "a.png")); };
  expect_no_silent_change(encode_png(colourful()), drop, 3000, "PNG");
}

TEST(Damage, APngOnWhiteIsRefusedWhereItsTransparencyIsDamaged) {
  // A tRNS chunk makes one colour, that of the first pixel, transparent; its CRC is that of zlib's polynomial.
  const Image image = colourful();
  std::string transparency = "tRNS";
  for (int c = 0; c < 3; ++c) transparency += std::string(1, '\0') + static_cast<char>(image.pixels[c]);
  std::uint32_t crc = 0xFFFFFFFFu;
  for (const unsigned char byte : transparency) {
    crc ^= byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) ? 0xEDB88320u : 0u);
  }
  crc = ~crc;
  std::string chunk = std::string(3, '\0') + '\6' + transparency;
  for (int shift = 24; shift >= 0; shift -= 8) chunk += static_cast<char>((crc >> shift) & 0xFF);
  std::string bytes = encode_png(image);
  bytes.insert(33, chunk);  // behind the signature and IHDR
  const Read white = [](const std::string& b) { return pixels_of(decode_png(b, "a.png", Alpha::kWhite)); };
  EXPECT_NE(white(bytes), pixels_of(image));
  expect_no_silent_change(bytes, white, 3000, "PNG on white");
}

TEST(Damage, AnNpzIsRefusedOrTheSame) {
  const TemporaryFolder folder;
  const auto path = folder / "a.npz";
  write_npz(path, {{"values", Array::doubles({3, 2}, {1, 2, 3, 4, 5, 6})}});
  const Read values = [&](const std::string& bytes) {
    write_file(path, bytes, Durability::kRename);
    const NpzReader npz(path);
    EPD_REQUIRE(npz.has("values"), "no values");
    const Array array = npz.read("values");
    return text(array.dtype, ' ', array.shape.size(), ' ', array.shape.front()) + array.bytes;
  };
  const std::string whole = read_file(path);
  const std::string truth = values(whole);
  std::mt19937 rng(20);
  for (int trial = 0; trial < 2000; ++trial) {
    try {
      ASSERT_TRUE(values(damaged(whole, rng)) == truth) << "trial " << trial;
    } catch (const Error&) {  // refused
    }
  }
}

TEST(Damage, AnArrayOfAnNpzDoesNotVanishByADamagedName) {
  const TemporaryFolder folder;
  const auto path = folder / "a.npz";
  write_npz(path, {{"mu", Array::scalar(1.0)}, {"detector", Array::text("demo")}});
  const std::string whole = read_file(path);
  for (std::size_t i = whole.find("detector.npy"); i != whole.npos; i = whole.find("detector.npy", i + 1)) {
    for (std::size_t byte = i; byte < i + 12; ++byte) {
      std::string bytes = whole;
      bytes[byte] ^= 4;
      write_file(path, bytes, Durability::kRename);
      EXPECT_THROW(NpzReader{path}, Error) << byte;
    }
  }
}

TEST(Damage, AnArchiveReadForItsChecksumsAloneIsRefused) {
  const TemporaryFolder folder;
  const auto path = folder / "model.ts";
  {
    ZipWriter zip(path);
    zip.add("data/0", std::string(5000, 'w'));
    zip.finish();
  }
  EXPECT_NO_THROW(require_undamaged(path));
  std::string bytes = read_file(path);
  bytes[bytes.find("wwww") + 2000] ^= 1;
  write_file(path, bytes, Durability::kRename);
  EXPECT_THROW(require_undamaged(path), Error);
}

TEST(Damage, ATrainingStateThatADiskFailsToReadIsNoDamagedOne) {
  const TemporaryFolder folder;
  TrainingState state;
  write_training_state(folder.path(), state);
  write_training_state(folder.path(), state);
  std::filesystem::remove(folder / "state.bin");
  std::filesystem::create_directory(folder / "state.bin");  // opens, and gives EISDIR when it is read
  EXPECT_THROW(read_training_state(folder.path()), Error);
}

TEST(Damage, APredictorOfATrainingRunIsRefusedOrTheSame) {
  for (const char* name : {"predictor.json", "predictor-ns.json"}) {
    const auto whole =
        sealed_predictor_text(read_predictor(std::filesystem::path(EPD_SOURCE_DIR) / "models/demo" / name));
    const Read read = [](const std::string& bytes) { return predictor_text(parse_predictor(bytes, "a.json")); };
    EXPECT_EQ(read(whole), read(predictor_text(parse_predictor(whole, "a.json"))));
    expect_no_silent_change(whole, read, 3000, name);
  }
}

TEST(Damage, ATrainingStateIsRefusedOrTheSame) {
  const TemporaryFolder folder;
  TrainingState state;
  state.iteration = 7;
  state.parameters = state.adam_mean = state.adam_square = {0.5, -1.25};
  state.fingerprint = "abc";
  write_training_state(folder.path(), state);
  const std::string whole = read_file(folder / "state.bin");
  std::mt19937 rng(21);
  for (int trial = 0; trial < 500; ++trial) {
    write_file(folder / "state.bin", damaged(whole, rng), Durability::kRename);
    const auto read = read_training_state(folder.path());
    ASSERT_TRUE(!read || *read == state) << "trial " << trial;
  }
}

}  // namespace
}  // namespace epd
