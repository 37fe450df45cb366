#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <string>

#include "epd/core/error.h"
#include "epd/files/json.h"
#include "support/test_files.h"

namespace epd {
namespace {

using test::error_of;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

std::string parse_error(const std::string& text) {
  return error_of([&] { JsonReader::parse(text, "some/file.json"); });
}

JsonReader reader(const std::string& text) { return JsonReader::parse(text, "file.json"); }

TEST(JsonReader, ReadsEveryKindOfField) {
  auto json = reader(R"({"s": "a b", "b": true, "x": 0.1, "i": -3, "v": [1, 2.5], "m": [[1, 2], [3, 4]], "n": null,
                         "o": {"inner": 7}})");
  EXPECT_EQ(json.string("s"), "a b");
  EXPECT_TRUE(json.boolean("b"));
  EXPECT_EQ(json.number("x"), 0.1);
  EXPECT_EQ(json.number("i"), -3);
  EXPECT_EQ(json.integer("i", -5, 5), -3);
  EXPECT_THAT(json.numbers("v", 2), ElementsAre(1, 2.5));
  EXPECT_THAT(json.matrix("m", 2, 2), ElementsAre(1, 2, 3, 4));
  EXPECT_TRUE(json.is_null("n"));
  EXPECT_TRUE(json.is_null("absent"));
  EXPECT_EQ(json.object("o").integer("inner", 0, 10), 7);
  json.finish();
}

TEST(JsonReader, SaysWhereBrokenJsonBreaks) {
  EXPECT_THAT(parse_error("{\"a\": 1,\n \"b\": }"), AllOf(HasSubstr("some/file.json"), HasSubstr("line 2, column 7")));
  EXPECT_THAT(parse_error("{\"a\": [1, 2"), AllOf(HasSubstr("some/file.json"), HasSubstr("cut short")));
  EXPECT_THAT(parse_error(""), HasSubstr("cut short"));
  EXPECT_THAT(parse_error("[1]"), HasSubstr("expected a JSON object, found array"));
  EXPECT_THAT(parse_error("{} {}"), HasSubstr("not valid JSON"));
}

TEST(JsonReader, EveryMessageIsOnePrintableLine) {
  for (const char* text : {"{\"a\":\n\n \x01}", "{\"\xff\xfe\": 1}", "{\"a\": \"\n\"}", "\xef\xbb\xbf{", "{'a': 1}"}) {
    const std::string message = parse_error(text);
    for (const char c : message) EXPECT_TRUE(c >= ' ' && c <= '~') << message;
    EXPECT_THAT(message, HasSubstr("not valid JSON"));
  }
}

TEST(JsonReader, RefusesNumbersThatAreNone) {
  for (const char* number : {"NaN", "Infinity", "-Infinity", "nan", "1e999", "01", "+1", "0x10", ".5"}) {
    EXPECT_THAT(parse_error(std::string("{\"a\": ") + number + "}"), HasSubstr("not valid JSON")) << number;
  }
}

TEST(JsonReader, RefusesAFieldGivenTwiceInOneObjectOnly) {
  EXPECT_THAT(parse_error(R"({"a": 1, "b": {"c": 1, "c": 2}})"), HasSubstr("c: duplicate field"));
  EXPECT_NO_THROW(JsonReader::parse(R"({"a": {"c": 1}, "b": {"c": 2}, "c": 3})", "some/file.json"));
}

TEST(JsonReader, NamesTheFileAndTheFieldOfWrongValues) {
  auto json = reader(R"({"s": 1, "b": 1, "x": "1", "i": 2.0, "v": [1, "2"], "m": [[1, 2], [3]], "o": [],
                         "big": 18446744073709551615})");
  EXPECT_EQ(error_of([&] { json.string("absent"); }), "file.json: absent: missing");
  EXPECT_EQ(error_of([&] { json.string("s"); }), "file.json: s: expected a string, found number");
  EXPECT_EQ(error_of([&] { json.boolean("b"); }), "file.json: b: expected true or false, found number");
  EXPECT_EQ(error_of([&] { json.number("x"); }), "file.json: x: expected a number, found string");
  EXPECT_EQ(error_of([&] { json.integer("i", 0, 9); }), "file.json: i: expected an integer, found 2.0");
  EXPECT_EQ(error_of([&] { json.integer("s", 2, 9); }), "file.json: s: expected 2 to 9, found 1");
  EXPECT_EQ(error_of([&] { json.integer("big", 0, 9); }),
            "file.json: big: expected 0 to 9, found 18446744073709551615");
  EXPECT_EQ(error_of([&] { json.numbers("v"); }), "file.json: v: expected a number, found string");
  EXPECT_EQ(error_of([&] { json.numbers("o", 1); }), "file.json: o: expected 1 numbers, found 0");
  EXPECT_EQ(error_of([&] { json.matrix("m", 2, 2); }), "file.json: m: expected 2 numbers a list, found 1");
  EXPECT_THAT(error_of([&] { json.matrix("m", 3, 2); }),
              HasSubstr("m: expected 3 lists of 2 numbers, found 2 entries"));
  EXPECT_THAT(error_of([&] { json.object("o"); }), HasSubstr("o: expected an object, found array"));
}

TEST(JsonReader, FinishFindsTheFieldThatNobodyAskedFor) {
  auto json = reader(R"({"a": 1, "colour": 2})");
  json.number("a");
  EXPECT_EQ(error_of([&] { json.finish(); }), "file.json: colour: unknown field");
}

TEST(JsonReader, DeepNestingIsNoTrouble) {
  const std::string deep = "{\"a\": " + std::string(200000, '[') + std::string(200000, ']') + "}";
  EXPECT_NO_THROW(JsonReader::parse(deep, "some/file.json"));
}

TEST(JsonNumber, ReadsBackAsTheSameFloat64) {
  for (const double value : {0.1, 1.0 / 3, 80.0, 0.002, 5e-324, 1.7976931348623157e308, -0.0, 1e21, 123456789.123}) {
    EXPECT_EQ(reader("{\"x\": " + json_line(value) + "}").number("x"), value) << json_line(value);
  }
  EXPECT_EQ(json_line(0.002), "0.002");
  EXPECT_THROW(json_line(std::numeric_limits<double>::quiet_NaN()), Error);
  EXPECT_THROW(json_line(std::numeric_limits<double>::infinity()), Error);
}

TEST(JsonString, ReadsBackAsTheSameText) {
  for (const std::string& text :
       {std::string("plain"), std::string("\"quoted\" \\ / \n\t\x01"), std::string("\xc3\xa9")}) {
    EXPECT_EQ(reader("{\"s\": " + json_line(text) + "}").string("s"), text);
  }
}

TEST(JsonText, TextAndLineHoldTheSameFieldsInOrder) {
  const Json inner{{"b", true}, {"m", {{1, 2}, {3, 4}}}};
  const Json json{{"z", 1}, {"a", "two  words\n"}, {"inner", inner}, {"none", nullptr}, {"list", {inner, inner}}};
  EXPECT_EQ(json_text(json).substr(0, 12), "{\n  \"z\": 1,\n");
  EXPECT_EQ(json_line(json).substr(0, 60), R"({"z": 1, "a": "two  words\n", "inner": {"b": true, "m": [[1,)");
  EXPECT_THAT(json_line(json), Not(HasSubstr("\n")));
  for (const auto& text : {json_text(json), json_line(json)}) {
    auto read = reader(text);
    EXPECT_EQ(read.string("a"), "two  words\n");
    EXPECT_THAT(read.object("inner").matrix("m", 2, 2), ElementsAre(1, 2, 3, 4));
  }
}

TEST(JsonText, TwoLevelsOfObjectsAndTheEntriesOfAListStandOnLines) {
  const Json json{
      {"list", {1.5, 80.0}},
      {"inner", {{"rows", {{1, 2}, {3, 4}}}, {"deep", {{"x", 1}, {"y", {{1, 2}}}}}, {"none", Json::object()}}},
      {"objects", Json::array({{{"a", 1}, {"b", {2}}}})}};
  EXPECT_EQ(json_text(json), R"({
  "list": [1.5, 80],
  "inner": {
    "rows": [
      [1, 2],
      [3, 4]
    ],
    "deep": {"x": 1, "y": [[1, 2]]},
    "none": {}
  },
  "objects": [
    {"a": 1, "b": [2]}
  ]
})");
}

}  // namespace
}  // namespace epd
