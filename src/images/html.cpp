#include "epd/images/html.h"

#include <openssl/evp.h>

#include "epd/images/png.h"

namespace epd {

std::string html_text(std::string_view value) {
  std::string result;
  for (const char c : value) {
    switch (c) {
      case '&':
        result += "&amp;";
        break;
      case '<':
        result += "&lt;";
        break;
      case '>':
        result += "&gt;";
        break;
      case '"':
        result += "&quot;";
        break;
      default:
        result += c;
    }
  }
  return result;
}

std::string data_address(const Image& image) {
  const std::string png = encode_png(image, {}, /*level=*/9);
  std::string base64((png.size() + 2) / 3 * 4 + 1, '\0');  // one more: OpenSSL ends it with a zero
  EVP_EncodeBlock(reinterpret_cast<unsigned char*>(base64.data()), reinterpret_cast<const unsigned char*>(png.data()),
                  static_cast<int>(png.size()));
  base64.pop_back();
  return "data:image/png;base64," + base64;
}

}  // namespace epd
