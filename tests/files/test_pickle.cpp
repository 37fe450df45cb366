#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "epd/files/pickle.h"
#include "support/test_files.h"

namespace epd {
namespace {

using test::error_of;
using ::testing::HasSubstr;
using namespace std::string_literals;

std::string refusal(const std::string& bytes) {
  return error_of([&] { Pickle(bytes, "x.pkl"); });
}

TEST(Pickle, ReadsPlainDataOfPythons) {
  // pickle.dumps({"a": [1, -2, (True, None)], "b": "x"}, protocol=4)
  const auto bytes = "\x80\x04\x95\x20\0\0\0\0\0\0\0}\x94(\x8c\x01"s +
                     "a\x94]\x94(K\x01J\xfe\xff\xff\xff\x88N\x86\x94" + "e\x8c\x01"s + "b\x94\x8c\x01x\x94u.";
  const Pickle pickle(bytes, "x.pkl");
  const auto& list = pickle.items(pickle.at(pickle.root(), "a"));
  ASSERT_EQ(list.size(), 3u);
  EXPECT_EQ(pickle.number(list[0]), 1);
  EXPECT_EQ(pickle.number(list[1]), -2);
  EXPECT_EQ(pickle.number(pickle.items(list[2])[0]), 1);
  EXPECT_EQ(pickle.items(list[2])[1].kind, Pickle::Kind::kNone);
  EXPECT_EQ(pickle.text(pickle.at(pickle.root(), "b")), "x");
  EXPECT_THAT(error_of([&] { pickle.at(pickle.root(), "c"); }), HasSubstr("there is no 'c'"));
  EXPECT_THAT(error_of([&] { pickle.number(pickle.root()); }), HasSubstr("x.pkl: expected a number"));
}

TEST(Pickle, CallsAreRecordsThatNobodyMakes) {
  const Pickle pickle(
      "\x80\x02"
      "cos\nsystem\nU\x04true\x85R."s,
      "x.pkl");
  EXPECT_EQ(pickle.root().kind, Pickle::Kind::kCall);
  EXPECT_EQ(pickle.items(pickle.root())[0].kind, Pickle::Kind::kGlobal);
}

TEST(Pickle, BytesOfPython3InProtocol2AreDecoded) {
  const Pickle pickle(
      "\x80\x02"
      "c_codecs\nencode\nX\x05\0\0\0A\xc3\xbf\xc2\x80X\x06\0\0\0latin1\x86R."s,
      "x.pkl");
  EXPECT_EQ(pickle.text(pickle.root()), "A\xff\x80");
}

TEST(Pickle, ListsThatHoldThemselvesDoNoHarm) {
  const Pickle pickle("\x80\x02]q\0h\0a."s, "x.pkl");
  EXPECT_EQ(pickle.items(pickle.root()).size(), 1u);
  std::string nested = "\x80\x02"s + std::string(1000000, ']') + std::string(999999, 'a') + '.';
  EXPECT_NO_THROW(Pickle(nested, "x.pkl"));
}

TEST(Pickle, BrokenBytesAreRefused) {
  for (const auto& bytes : {""s, "."s, "\x80"s, "a."s, "e."s, "h\x07."s, "r\xff\xff\xff\xff."s, "(t)t."s,
                            "K\x01K\x02"
                            "a."s,
                            "U\xff"
                            "a."s,
                            "cos\nsystem"s, "(K\x01\x86."s, "T\xff\xff\xff\xff."s}) {
    EXPECT_THAT(refusal(bytes), HasSubstr("cannot read the pickle x.pkl")) << bytes;
  }
  EXPECT_THAT(refusal("i."), HasSubstr("more than plain data (opcode 105)"));
}

}  // namespace
}  // namespace epd
