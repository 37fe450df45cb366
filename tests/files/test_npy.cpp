#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "epd/files/npz.h"
#include "support/test_files.h"

namespace epd {
namespace {

using test::error_of;
using test::fixture;
using test::read_npz;
using test::TemporaryFolder;
using ::testing::AllOf;
using ::testing::HasSubstr;

class NumpyKinds : public ::testing::TestWithParam<const char*> {};

TEST_P(NumpyKinds, EveryKindHasTheValuesThatNumpyConvertsItTo) {
  const NpzReader kinds(fixture(GetParam()));
  const NpzReader converted(fixture("kinds_as_float64.npz"));
  ASSERT_EQ(converted.names().size(), 21u);
  for (const std::string& name : converted.names()) {
    const Array array = kinds.read(name), expected = converted.read(name);
    EXPECT_EQ(array.shape, expected.shape) << name;
    EXPECT_EQ(array.as_doubles(), expected.as_doubles()) << name;
  }
}

TEST_P(NumpyKinds, TextIsReadAsUtf8) {
  const NpzReader kinds(fixture(GetParam()));
  EXPECT_EQ(kinds.read("text").as_text(), "Fr\u00e9chet \u8ddd\u79bb \U0001f600");
  EXPECT_EQ(kinds.read("text_big_endian").as_text(), "swapped");
  EXPECT_EQ(kinds.read("bytes").as_text(), "plain");
  EXPECT_EQ(kinds.read("empty_text").as_text(), "");
  EXPECT_THAT(error_of([&] { kinds.read("text").as_doubles(); }), HasSubstr("no numbers"));
  EXPECT_THAT(error_of([&] { kinds.read("float32").as_int64s(); }), HasSubstr("no integers"));
  EXPECT_THAT(error_of([&] { kinds.read("float32").as_text(); }), HasSubstr("not a single string"));
  EXPECT_THAT(error_of([&] { kinds.read("int8").as_uint8(); }), HasSubstr("uint8"));
}

INSTANTIATE_TEST_SUITE_P(StoredAndCompressed, NumpyKinds, ::testing::Values("kinds.npz", "kinds_compressed.npz"),
                         [](const auto& test) { return std::filesystem::path(test.param).stem().string(); });

TEST(Npy, EveryHeaderVersionIsRead) {
  const auto expected = NpzReader(fixture("kinds.npz")).read("float64").as_doubles();
  for (const char* name : {"version1.npy", "version2.npy", "version3.npy"}) {
    EXPECT_EQ(read_npy(fixture(name)).as_doubles(), expected) << name;
  }
}

TEST(Npz, PicklesAndStructuresAreRefusedByNameAndTheRestIsRead) {
  const NpzReader reader(fixture("refused.npz"));
  EXPECT_EQ(reader.read("mu").as_doubles(), (std::vector<double>{0, 1, 2}));
  EXPECT_THAT(error_of([&] { reader.read("pickled"); }),
              AllOf(HasSubstr("'pickled'"), HasSubstr("refused.npz"), HasSubstr("pickle")));
  EXPECT_THAT(error_of([&] { reader.read("structured"); }), HasSubstr("structured"));
  EXPECT_THAT(error_of([&] { reader.read("complex"); }), HasSubstr("<c16"));
  EXPECT_THAT(error_of([&] { reader.read("date"); }), HasSubstr("not read"));
  EXPECT_THAT(error_of([&] { reader.read("sigma"); }), AllOf(HasSubstr("no array 'sigma'"), HasSubstr("mu")));
}

Arrays some_arrays() {
  return {{"mu", Array::doubles({3}, {1.5, -2.0, NAN})},
          {"sigma", Array::floats({2, 2}, {1, 2, 3, 4})},
          {"count", Array::scalar(std::int64_t{50'000})},
          {"detector", Array::text("inception \u00e9\U0001f600")},
          {"empty", Array::text("")},
          {"pixels", Array::uint8s({1, 2, 1, 3}, {1, 2, 3, 4, 5, 6})}};
}

TEST(Npz, WhatIsWrittenReadsBackAndHasTheSameBytesEachTime) {
  const TemporaryFolder folder;
  write_npz(folder / "a.npz", some_arrays());
  write_npz(folder / "b.npz", some_arrays());
  EXPECT_EQ(read_file(folder / "a.npz"), read_file(folder / "b.npz"));
  EXPECT_EQ(folder.count(), 2u);
  const Arrays read = read_npz(folder / "a.npz");
  ASSERT_EQ(read.size(), some_arrays().size());
  for (const auto& [name, array] : some_arrays()) {
    EXPECT_EQ(read.at(name).dtype, array.dtype) << name;
    EXPECT_EQ(read.at(name).shape, array.shape) << name;
    EXPECT_EQ(read.at(name).bytes, array.bytes) << name;
  }
  EXPECT_EQ(read.at("detector").as_text(), "inception \u00e9\U0001f600");
  EXPECT_EQ(read.at("count").as_int64s(), (std::vector<std::int64_t>{50'000}));
}

TEST(Npz, EveryTruncationIsAnErrorThatNamesTheFile) {
  const TemporaryFolder folder;
  for (const char* name : {"kinds.npz", "kinds_compressed.npz"}) {
    const std::string bytes = read_file(fixture(name));
    for (std::size_t length = 0; length < bytes.size(); length += 7) {
      write_file(folder / "cut.npz", std::string_view(bytes).substr(0, length));
      EXPECT_THAT(error_of([&] { read_npz(folder / "cut.npz"); }), HasSubstr("cut.npz")) << length;
    }
  }
}

TEST(Npz, DamageIsFoundByTheChecksum) {
  const TemporaryFolder folder;
  write_npz(folder / "good.npz", {{"mu", Array::doubles({100}, std::vector<double>(100, 0.5))}});
  std::string bytes = read_file(folder / "good.npz");
  bytes[500] = static_cast<char>(bytes[500] ^ 4);
  write_file(folder / "bad.npz", bytes);
  EXPECT_THAT(error_of([&] { read_npz(folder / "bad.npz"); }), AllOf(HasSubstr("mu.npy"), HasSubstr("CRC")));
}

TEST(Npy, EveryTruncationIsAnErrorThatNamesTheArray) {
  const std::string bytes = read_file(fixture("version1.npy"));
  for (std::size_t length = 0; length < bytes.size(); ++length) {
    EXPECT_THAT(error_of([&] { decode_npy(std::string_view(bytes).substr(0, length), "the array"); }),
                HasSubstr("the array"));
  }
}

std::string with_header(const std::string& dictionary) {
  std::string bytes("\x93NUMPY\1\0", 8);
  bytes += static_cast<char>(dictionary.size() & 255);
  bytes += static_cast<char>(dictionary.size() >> 8);
  return bytes + dictionary + std::string(64, '\0');
}

TEST(Npy, HeadersAreReadInEveryShapeThatPythonWrites) {
  const auto shape_of = [](const std::string& dictionary) { return decode_npy(with_header(dictionary), "x").shape; };
  using Shape = std::vector<std::size_t>;
  EXPECT_EQ(shape_of("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }   \n"), (Shape{2, 3}));
  EXPECT_EQ(shape_of("{\"shape\": (2,), \"descr\": \"<f4\", \"fortran_order\": True}\n"), (Shape{2}));
  EXPECT_EQ(shape_of("{'descr':'<f4','fortran_order':False,'shape':()}"), Shape{});
  EXPECT_EQ(shape_of("{'descr': '<f4', 'fortran_order': False, 'shape': (2L, 1L), }"), (Shape{2, 1}));
}

TEST(Npy, BadHeadersAreErrorsAndAbsurdShapesAllocateNothing) {
  const auto described = [](const std::string& dtype, const std::string& shape) {
    return "{'descr': " + dtype + ", 'fortran_order': False, 'shape': " + shape + "}";
  };
  const std::vector<std::string> bad{
      "",
      "{}",
      "nonsense",
      "{'descr': '<f8', 'fortran_order': False, }",
      "{'descr': '<f8', 'fortran_order': Maybe, 'shape': (2,)}",
      "{'descr': '<f8', 'other': 1, 'shape': (2,)}",
      described("'<f8'", "(1e9,)"),
      described("'<f8'", "(-1,)"),
      described("'<f8'", "(4611686018427387904, 4)"),
      described("'<f8'", "(99999999999999999999999,)"),
      described("'<f8'", "(1000000000,)"),
      described("'<f8'", "(2,"),
      described("'<f3'", "(2,)"),
      described("'f8'", "(2,)"),
      described("''", "(2,)"),
      described("'<U99999999999'", "(2,)"),
      described("'<U99999999999999999999999'", "(2,)"),
      described("'|O'", "(2,)"),
      described("[('x', '<f8')]", "(2,)"),
  };
  for (const std::string& dictionary : bad) {
    EXPECT_THAT(error_of([&] { decode_npy(with_header(dictionary), "an array"); }), HasSubstr("an array"))
        << dictionary;
  }
}

TEST(Npy, NoDamageCrashesTheReader) {
  std::mt19937 generator(4);
  const std::string good = read_file(fixture("version1.npy"));
  for (int trial = 0; trial < 5000; ++trial) {
    std::string bad = good;
    for (int change = 0; change < 3; ++change) bad[generator() % 128] = static_cast<char>(generator());
    try {
      decode_npy(bad, "damaged").as_doubles();
    } catch (const Error&) {
    }
  }
}

TEST(NpyRows, GrowRowByRowAndAppearWhole) {
  const TemporaryFolder folder;
  {
    NpyRows rows(folder / "rows.npy", "<f4", {2, 3});
    for (int i = 0; i < 12; ++i) {
      const std::vector<float> row(6, static_cast<float>(i));
      rows.append({reinterpret_cast<const char*>(row.data()), 24});
    }
    EXPECT_FALSE(std::filesystem::exists(folder / "rows.npy"));
    EXPECT_THAT(error_of([&] { rows.append("123"); }), HasSubstr("whole rows"));
    rows.finish();
  }
  const Array read = read_npy(folder / "rows.npy");
  EXPECT_EQ(read.shape, (std::vector<std::size_t>{12, 2, 3}));
  EXPECT_EQ(read.as_doubles().back(), 11.0);
  { const NpyRows abandoned(folder / "never.npy", "<f4", {2}); }
  EXPECT_EQ(folder.count(), 1u);
}

TEST(NpzRows, HoldTheRowsAndFurtherArrays) {
  const TemporaryFolder folder;
  NpzRows rows(folder / "rows.npz", "arr_0", "|u1", {3, 2});
  rows.append("ab");
  rows.append("cdef");
  EXPECT_THAT(error_of([&] { rows.append("g"); }), HasSubstr("more rows"));
  rows.add("arr_1", Array::int64s({3}, {7, 8, 9}));
  rows.finish();
  const Arrays read = read_npz(folder / "rows.npz");
  EXPECT_EQ(read.at("arr_0").bytes, "abcdef");
  EXPECT_EQ(read.at("arr_1").as_int64s(), (std::vector<std::int64_t>{7, 8, 9}));

  NpzRows missing(folder / "short.npz", "arr_0", "|u1", {3, 2});
  missing.append("ab");
  EXPECT_THAT(error_of([&] { missing.finish(); }), HasSubstr("2 bytes of rows instead of 6"));
  EXPECT_FALSE(std::filesystem::exists(folder / "short.npz"));
}

}  // namespace
}  // namespace epd
