#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <random>
#include <string>

#include "epd/core/error.h"
#include "epd/documents/plan_json.h"
#include "epd/documents/predictor_json.h"
#include "epd/documents/training_state.h"
#include "epd/files/npz.h"
#include "epd/images/png.h"
#include "epd/solver/make_plan.h"
#include "faults/damage.h"
#include "support/test_files.h"

// A damaged file is refused, or what is read from it is what was written: never something else without a word. Formats
// without a checksum have one beside them, in SHA256SUMS, or a seal of their own.

namespace epd {
namespace {

namespace fs = std::filesystem;
using namespace test;

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
  fs::remove(folder / "state.bin");
  fs::create_directory(folder / "state.bin");  // opens, and gives EISDIR when it is read
  EXPECT_THROW(read_training_state(folder.path()), Error);
}

std::string predictor_of(const std::string& bytes) { return predictor_text(parse_predictor(bytes, "a.json")); }

TEST(Damage, APredictorOfATrainingRunIsRefusedOrTheSame) {
  for (const char* name : {"predictor.json", "predictor-ns.json"}) {
    const auto text = predictor_text(read_predictor(fs::path(EPD_SOURCE_DIR) / "models/demo" / name));
    EXPECT_EQ(predictor_of(sealed(text)), predictor_of(text));
    expect_no_silent_change(sealed(text), predictor_of, 3000, name);
  }
}

TEST(Damage, EveryPredictorOfTheProductIsSealed) {
  int found = 0;
  for (const char* folder : {"exp", "models/demo"}) {
    for (const auto& entry : fs::recursive_directory_iterator(fs::path(EPD_SOURCE_DIR) / folder)) {
      if (entry.path().extension() != ".json") continue;
      std::string bytes = read_file(entry.path());
      if (bytes.find("\"epd-predictor\"") == bytes.npos) continue;
      ++found;
      EXPECT_NO_THROW(parse_predictor(bytes, entry.path()));
      bytes.insert(bytes.find("\"source\""), " ");
      EXPECT_THROW(parse_predictor(bytes, entry.path()), Error) << entry.path();
    }
  }
  EXPECT_GE(found, 100);
}

TEST(Damage, APlanIsRefusedOrTheSame) {
  const auto plan = make_plan(SolverOptions{}, TimeSteps({8, 2, 1}));
  const Read read = [](const std::string& bytes) {
    const auto file = parse_plan(bytes, "plan.json");
    return plan_json(file.plan, file.solver, 1, file.clock);
  };
  expect_no_silent_change(plan_json(plan, "euler"), read, 3000, "plan");
}

TEST(Damage, AnArchiveOfImagesIsRefusedOrTheSameOrWarnedOf) {
  const TemporaryFolder folder;
  const auto path = folder / "images.zip";
  ZipWriter zip(path);
  for (const char* name : {"nine.png", "one.png"}) zip.add(name, encode_png(colourful()));
  zip.add("dataset.json", R"({"labels": [["nine.png", 9], ["one.png", 1]]})");
  zip.finish();
  const std::string whole = read_file(path);
  const Read read = [&](const std::string& bytes) {
    write_file(path, bytes, Durability::kRename);
    return images_of(path);
  };
  const std::string truth = read(whole);
  std::mt19937 rng(22);
  for (int trial = 0; trial < 1000; ++trial) is_refused(damaged(whole, rng), read, truth, text("trial ", trial));
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
