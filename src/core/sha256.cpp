#include "epd/core/sha256.h"

#include <openssl/evp.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <memory>
#include <vector>

#include "epd/core/error.h"

namespace epd {
namespace {

class Sha256 {
 public:
  Sha256() : context_(EVP_MD_CTX_new(), EVP_MD_CTX_free) {
    EPD_REQUIRE(context_ && EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) == 1, "SHA-256 is not available");
  }
  void update(std::string_view bytes) {
    EPD_REQUIRE(EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size()) == 1, "SHA-256 failed");
  }
  std::string hex() {
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned int length = 0;
    EPD_REQUIRE(EVP_DigestFinal_ex(context_.get(), digest, &length) == 1, "SHA-256 failed");
    static constexpr char kDigits[] = "0123456789abcdef";
    std::string result;
    for (unsigned int i = 0; i < length; ++i) {
      result += kDigits[digest[i] >> 4];
      result += kDigits[digest[i] & 15];
    }
    return result;
  }

 private:
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context_;
};

}  // namespace

std::string sha256_hex(std::string_view bytes) {
  Sha256 hash;
  hash.update(bytes);
  return hash.hex();
}

std::string sha256_of_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  EPD_REQUIRE(file, "cannot read ", path.string(), ": ", std::strerror(errno));
  Sha256 hash;
  std::vector<char> buffer(std::size_t{1} << 20);
  errno = 0;
  while (file.read(buffer.data(), static_cast<std::streamsize>(buffer.size())) || file.gcount() > 0) {
    hash.update({buffer.data(), static_cast<std::size_t>(file.gcount())});
  }
  // A folder opens like a file and fails at the first read.
  EPD_REQUIRE(!file.bad(), "cannot read ", path.string(), ": ", std::strerror(errno != 0 ? errno : EIO));
  return hash.hex();
}

}  // namespace epd
