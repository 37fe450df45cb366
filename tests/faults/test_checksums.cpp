#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <string>

#include "epd/core/sha256.h"
#include "epd/files/checksums.h"
#include "epd/files/zip.h"
#include "epd/text/clip_tokenizer.h"
#include "epd/text/prompts.h"
#include "faults/damage.h"
#include "support/test_files.h"

// Files without a checksum of their own are checked against SHA256SUMS beside them, or warned of.

namespace epd {
namespace {

namespace fs = std::filesystem;
using namespace test;

std::string lists(const std::string& name, const std::string& bytes) { return sha256_hex(bytes) + "  " + name + "\n"; }

TEST(Damage, AnImageThatIsListedBesideItIsRefusedOrTheSame) {
  const ZipReader formats(test::fixture("formats.zip"));
  for (const char* name : {"rgb.bmp", "palette.gif", "rgb.ppm", "lossy.webp", "grey_jpeg.tif", "rgb_packbits.tif"}) {
    const TemporaryFolder folder;
    const std::string whole = formats.read(*formats.find(name));
    write_file(folder / "SHA256SUMS", lists(name, whole));
    const Read read = [&](const std::string& bytes) {
      write_file(folder / name, bytes, Durability::kRename);
      return images_of(folder.path());
    };
    expect_no_silent_change(whole, read, 200, name);
  }
}

TEST(Damage, AFileOfImagesThatIsListedBesideItIsRefusedOrTheSame) {
  for (const char* name : {"cifar-python3.tar.gz", "images.npy", "images_fortran.npy"}) {
    const TemporaryFolder folder;
    const std::string whole = read_file(test::fixture(name));
    write_file(folder / "SHA256SUMS", lists(name, whole));
    const Read read = [&](const std::string& bytes) {
      write_file(folder / name, bytes, Durability::kRename);
      return images_of(folder / name);
    };
    expect_no_silent_change(whole, read, 200, name);
  }
}

TEST(Damage, WhatTokensAreMadeOfIsRefusedOrTheSameWhereItIsListed) {
  const std::map<std::string, std::string> files{
      {"vocab.json", R"({"a": 0, "a</w>": 1, "ab</w>": 2, "b</w>": 3, "<|startoftext|>": 4, "<|endoftext|>": 5})"},
      {"merges.txt", "#version\na b</w>\na a\n"},
      {"captions.csv", "text\na red bird\n\"a green, small bird\"\n"}};
  const TemporaryFolder folder;
  std::string sums;
  for (const auto& [name, bytes] : files) {
    write_file(folder / name, bytes);
    sums += lists(name, bytes);
  }
  write_file(folder / "SHA256SUMS", sums);
  for (const auto& [name, whole] : files) {
    const Read read = [&, &name = name](const std::string& bytes) {
      write_file(folder / name, bytes, Durability::kRename);
      std::string result = Prompts::read(folder / "captions.csv").for_seed(1);
      for (const auto token : ClipTokenizer::read(folder.path()).tokens("ab aab b")) result += text(' ', token);
      return result;
    };
    expect_no_silent_change(whole, read, 200, name);
    read(whole);
  }
}

TEST(Damage, AListOfChecksumsThatIsNoneIsRefused) {
  const TemporaryFolder folder;
  for (const std::string line : {"abc  a.csv\n", "\n\nfoo\n", "<html>\n"}) {
    write_file(folder / "SHA256SUMS", line);
    EXPECT_THROW(Checksums{folder.path()}, Error) << line;
  }
  write_file(folder / "SHA256SUMS", std::string(64, 'A') + " *./b.csv\n");  // in upper case, as other tools write
  EXPECT_NO_THROW(Checksums(folder.path()).check("a.csv", "x"));
  EXPECT_THROW(Checksums(folder.path()).check("b.csv", "x"), Error);
}

TEST(Damage, AJpegThatIsRepairedIsWarnedOf) {
  const ZipReader pictures(test::fixture("pictures.zip"));
  int changed = 0;
  for (const auto& entry : pictures.entries()) {
    if (!entry.name.ends_with(".jpg")) continue;
    std::string bytes = pictures.read(*pictures.find(entry.name));
    bytes.erase(bytes.size() - 40, 20);  // the end of the data, not of the file
    const Read read = [](const std::string& b) { return pixels_of(decode_image(b, "a.jpg")); };
    testing::internal::CaptureStderr();
    try {
      read(bytes);
      ++changed;
      EXPECT_NE(testing::internal::GetCapturedStderr().find("the JPEG a.jpg is damaged"), std::string::npos);
    } catch (const Error&) {
      testing::internal::GetCapturedStderr();
    }
  }
  EXPECT_GT(changed, 0);
}

}  // namespace
}  // namespace epd
