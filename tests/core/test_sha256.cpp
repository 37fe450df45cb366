#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "epd/core/error.h"
#include "epd/core/sha256.h"

namespace epd {
namespace {

// FIPS 180-2, appendix B: the published examples.
TEST(Sha256, GivesThePublishedDigests) {
  EXPECT_EQ(sha256_hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256_hex("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(sha256_hex(std::string(1'000'000, 'a')),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(Sha256, OfAFileIsThatOfItsBytes) {
  const auto path = std::filesystem::temp_directory_path() / ("epd-sha256-" + std::to_string(::getpid()));
  const std::string bytes(3'000'001, 'x');  // several pieces and a rest
  std::ofstream(path, std::ios::binary) << bytes;
  EXPECT_EQ(sha256_of_file(path), sha256_hex(bytes));
  std::ofstream(path, std::ios::binary | std::ios::trunc).close();
  EXPECT_EQ(sha256_of_file(path), sha256_hex(""));
  std::filesystem::remove(path);
}

TEST(Sha256, AMissingFileAndAFolderAreErrorsThatNameIt) {
  for (const auto& path : {std::filesystem::path("/nowhere/at/all"), std::filesystem::temp_directory_path()}) {
    try {
      sha256_of_file(path);
      ADD_FAILURE() << path;
    } catch (const Error& e) {
      EXPECT_NE(std::string(e.what()).find(path.string()), std::string::npos) << e.what();
    }
  }
}

}  // namespace
}  // namespace epd
