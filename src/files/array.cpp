#include <bit>
#include <cmath>
#include <cstring>

#include "epd/core/error.h"
#include "epd/files/npy.h"

namespace epd {
namespace {

static_assert(std::endian::native == std::endian::little, "arrays in memory are little-endian");

template <class T>
Array array_of(std::string dtype, std::vector<std::size_t> shape, const std::vector<T>& values) {
  Array array{std::move(dtype), std::move(shape),
              std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T))};
  EPD_REQUIRE(array.size() == values.size(), "an array of ", array.size(), " items cannot have ", values.size(),
              " values");
  return array;
}

double half_to_double(std::uint16_t bits) {
  const int exponent = bits >> 10 & 31;
  const int mantissa = bits & 1023;
  const double sign = bits >> 15 != 0 ? -1.0 : 1.0;
  if (exponent == 31) return mantissa == 0 ? sign * HUGE_VAL : NAN;
  if (exponent == 0) return sign * std::ldexp(mantissa, -24);
  return sign * std::ldexp(mantissa + 1024, exponent - 25);
}

template <class To, class From>
std::vector<To> converted(const Array& array) {
  std::vector<To> result(array.bytes.size() / sizeof(From));
  for (std::size_t i = 0; i < result.size(); ++i) {
    From value;
    std::memcpy(&value, array.bytes.data() + i * sizeof(From), sizeof(From));
    result[i] = static_cast<To>(value);
  }
  return result;
}

std::vector<double> halves(const Array& array) {
  std::vector<double> result;
  for (const double bits : converted<double, std::uint16_t>(array)) {
    result.push_back(half_to_double(static_cast<std::uint16_t>(bits)));
  }
  return result;
}

template <class To>
std::vector<To> integers_as(const Array& array, std::string_view wanted) {
  const std::string type = array.dtype.substr(1);
  if (type == "i1") return converted<To, std::int8_t>(array);
  if (type == "i2") return converted<To, std::int16_t>(array);
  if (type == "i4") return converted<To, std::int32_t>(array);
  if (type == "i8") return converted<To, std::int64_t>(array);
  if (type == "u1" || type == "b1") return converted<To, std::uint8_t>(array);
  if (type == "u2") return converted<To, std::uint16_t>(array);
  if (type == "u4") return converted<To, std::uint32_t>(array);
  if (type == "u8") return converted<To, std::uint64_t>(array);
  throw Error(text("an array of dtype ", array.dtype, " holds no ", wanted));
}

void append_utf8(std::string& result, std::uint32_t code) {
  const auto put = [&](std::uint32_t byte) { result += static_cast<char>(byte); };
  EPD_REQUIRE(code < 0x110000, "an array of strings contains the invalid character ", code);
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xC0 | code >> 6), put(0x80 | (code & 63));
  } else if (code < 0x10000) {
    put(0xE0 | code >> 12), put(0x80 | (code >> 6 & 63)), put(0x80 | (code & 63));
  } else {
    put(0xF0 | code >> 18), put(0x80 | (code >> 12 & 63)), put(0x80 | (code >> 6 & 63)), put(0x80 | (code & 63));
  }
}

/// UTF-8 to code points; a byte that is none becomes U+FFFD.
std::vector<std::uint32_t> code_points(std::string_view utf8) {
  std::vector<std::uint32_t> result;
  for (std::size_t i = 0; i < utf8.size();) {
    const auto lead = static_cast<unsigned char>(utf8[i]);
    const std::size_t length = lead < 0x80 ? 1 : lead >> 5 == 6 ? 2 : lead >> 4 == 14 ? 3 : lead >> 3 == 30 ? 4 : 0;
    bool good = length > 0 && i + length <= utf8.size();
    std::uint32_t code = length == 1 ? lead : lead & (0xFFu >> (length + 1));
    for (std::size_t j = 1; good && j < length; ++j) {
      const auto next = static_cast<unsigned char>(utf8[i + j]);
      good = next >> 6 == 2;
      code = code << 6 | (next & 63);
    }
    result.push_back(good ? code : 0xFFFD);
    i += good ? length : 1;
  }
  return result;
}

}  // namespace

Array Array::doubles(std::vector<std::size_t> shape, const std::vector<double>& values) {
  return array_of("<f8", std::move(shape), values);
}
Array Array::floats(std::vector<std::size_t> shape, const std::vector<float>& values) {
  return array_of("<f4", std::move(shape), values);
}
Array Array::int64s(std::vector<std::size_t> shape, const std::vector<std::int64_t>& values) {
  return array_of("<i8", std::move(shape), values);
}
Array Array::uint8s(std::vector<std::size_t> shape, const std::vector<std::uint8_t>& values) {
  return array_of("|u1", std::move(shape), values);
}
Array Array::scalar(double value) { return doubles({}, {value}); }
Array Array::scalar(std::int64_t value) { return int64s({}, {value}); }

Array Array::text(std::string_view value) {
  auto codes = code_points(value);
  if (codes.empty()) codes.push_back(0);  // NumPy's '' is one zero character too
  return {"<U" + std::to_string(codes.size()),
          {},
          std::string(reinterpret_cast<const char*>(codes.data()), 4 * codes.size())};
}

std::size_t Array::size() const {
  std::size_t product = 1;
  for (const std::size_t length : shape) product *= length;
  return product;
}

std::size_t Array::item_bytes() const { return size() == 0 ? 0 : bytes.size() / size(); }

bool Array::is_text() const { return dtype.size() > 1 && (dtype[1] == 'U' || dtype[1] == 'S'); }

std::vector<double> Array::as_doubles() const {
  if (dtype == "<f8") return converted<double, double>(*this);
  if (dtype == "<f4") return converted<double, float>(*this);
  if (dtype == "<f2") return halves(*this);
  return integers_as<double>(*this, "numbers");
}

std::vector<std::int64_t> Array::as_int64s() const { return integers_as<std::int64_t>(*this, "integers"); }

const std::uint8_t* Array::as_uint8() const {
  EPD_REQUIRE(is_uint8(), "an array of dtype ", dtype, " is not uint8");
  return reinterpret_cast<const std::uint8_t*>(bytes.data());
}

std::string Array::as_text() const {
  EPD_REQUIRE(is_text() && size() == 1, "an array of dtype ", dtype, " with ", size(), " items is not a single string");
  if (dtype[1] == 'S') return bytes.substr(0, bytes.find_last_not_of('\0') + 1);
  std::string result;
  auto codes = converted<std::uint32_t, std::uint32_t>(*this);
  while (!codes.empty() && codes.back() == 0) codes.pop_back();
  for (const std::uint32_t code : codes) append_utf8(result, code);
  return result;
}

}  // namespace epd
