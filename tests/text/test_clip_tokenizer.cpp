#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "epd/core/error.h"
#include "epd/core/sha256.h"
#include "epd/text/clip_tokenizer.h"
#include "text/support.h"

namespace epd {
namespace {

using Tokens = std::vector<ClipTokenizer::Token>;
using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr ClipTokenizer::Token kStart = 49406, kEnd = 49407;

std::string utf8(int c) {
  const auto byte = [](int value) { return static_cast<char>(value); };
  const auto next = [&](int value) { return byte(0x80 | (value & 0x3F)); };
  if (c < 0x80) return {byte(c)};
  if (c < 0x800) return {byte(0xC0 | c >> 6), next(c)};
  if (c < 0x10000) return {byte(0xE0 | c >> 12), next(c >> 6), next(c)};
  return {byte(0xF0 | c >> 18), next(c >> 12), next(c >> 6), next(c)};
}

/// The vocabulary follows from the merges: bytes (visible Latin-1 first), bytes that end a word, merges, start, end.
nlohmann::json vocabulary(std::istream& merges) {
  std::vector<std::string> tokens, hidden;
  for (int byte = 0; byte < 256; ++byte) {
    const bool visible = (byte > 0x20 && byte < 0x7F) || (byte > 0xA0 && byte != 0xAD);
    (visible ? tokens : hidden).push_back(utf8(visible ? byte : 0x100 + static_cast<int>(hidden.size())));
  }
  tokens.insert(tokens.end(), hidden.begin(), hidden.end());
  for (int i = 0; i < 256; ++i) tokens.push_back(tokens[static_cast<std::size_t>(i)] + "</w>");
  std::string left, right;
  std::getline(merges, left);
  while (merges >> left >> right) tokens.push_back(left + right);
  tokens.insert(tokens.end(), {"<|startoftext|>", "<|endoftext|>"});
  nlohmann::json numbers;
  for (std::size_t i = 0; i < tokens.size(); ++i) numbers[tokens[i]] = i;
  return numbers;
}

const ClipTokenizer& published() {
  static const ClipTokenizer tokenizer = [] {
    const TemporaryFolder folder;
    const std::filesystem::path merges = std::filesystem::path(EPD_SOURCE_DIR) / "models/vocabulary/merges.txt";
    std::filesystem::copy_file(merges, folder.path / "merges.txt");
    std::ifstream file(merges);
    folder.write("vocab.json", vocabulary(file).dump());
    return ClipTokenizer::read(folder.path);
  }();
  return tokenizer;
}

std::string reading_fails_with(const TemporaryFolder& folder) {
  try {
    ClipTokenizer::read(folder.path);
  } catch (const Error& error) {
    return error.what();
  }
  return "nothing";
}

nlohmann::json golden(const std::string& name) {
  std::ifstream file(std::filesystem::path(EPD_SOURCE_DIR) / "tests/golden/text" / name);
  return nlohmann::json::parse(file);
}

void expect_references_tokens(const nlohmann::json& rows, std::size_t count) {
  ASSERT_EQ(rows.size(), count);
  for (const auto& row : rows) EXPECT_EQ(published().tokens(row[0].get<std::string>()), row[1].get<Tokens>()) << row[0];
}

TEST(ClipTokenizer, AThousandStringsHaveTheReferencesTokens) {
  expect_references_tokens(golden("clip_tokens.json"), 1000);
}

TEST(ClipTokenizer, WordsThatAreHardToTellApartHaveTheReferencesTokens) {
  expect_references_tokens(golden("clip_tokens_hard.json"), 400);
}

/// Of 256 characters, each behind and in front of a letter, a sign and a digit.
std::string tokens_around(int first) {
  std::string text, line;
  for (int c = first; c < first + 256; ++c) {
    if (c >= 0xD800 && c < 0xE000) continue;
    const std::string one = utf8(c);
    text += "a" + one + "b!" + one + "?1" + one + "'" + one + " ";
  }
  for (const auto token : published().tokens(text)) line += (line.empty() ? "" : " ") + std::to_string(token);
  return line + "\n";
}

TEST(ClipTokenizer, EveryCharacterOfThePlanesWithLettersHasTheReferencesTokens) {
  const auto rows = golden("clip_tokens_planes.json");
  ASSERT_EQ(rows.size(), 3u);
  for (const auto& row : rows) {
    const int plane = row[0].get<int>();
    std::string lines;
    for (int first = plane << 16; first < (plane + 1) << 16; first += 256) lines += tokens_around(first);
    EXPECT_EQ(sha256_hex(lines), row[1].get<std::string>()) << "plane " << plane;
  }
}

TEST(ClipTokenizer, ATextStandsBetweenStartAndEndAndIsPaddedWithTheEnd) {
  EXPECT_THAT(published().encode("a cat", 7), ElementsAre(kStart, 320, 2368, kEnd, kEnd, kEnd, kEnd));
  EXPECT_EQ(published().encode("a cat").size(), 77u);
}

TEST(ClipTokenizer, TheEmptyTextIsStartAndEnds) {
  Tokens tokens = published().encode("");
  EXPECT_EQ(tokens.front(), kStart);
  tokens.erase(tokens.begin());
  EXPECT_THAT(tokens, Each(kEnd));
}

TEST(ClipTokenizer, ALongTextIsCutAndKeepsItsEnd) {
  std::string text;
  for (int i = 0; i < 100; ++i) text += "cat ";
  const Tokens tokens = published().encode(text);
  ASSERT_EQ(tokens.size(), 77u);
  EXPECT_EQ(tokens[0], kStart);
  EXPECT_EQ(tokens[75], 2368);
  EXPECT_EQ(tokens[76], kEnd);
}

TEST(ClipTokenizer, BytesThatAreNoUtf8AreLeftOut) {
  EXPECT_EQ(published().tokens("a \xFF\xC3 cat\xE2\x82"), published().tokens("a cat"));
}

TEST(ClipTokenizer, CharactersNewerThanUnicode14AreLeftOut) {
  EXPECT_EQ(published().tokens("a\xF0\x9F\xA9\xB7 cat"), published().tokens("a cat"));  // U+1FA77, of Unicode 15
  EXPECT_NE(published().tokens("a\xF0\x9F\xAB\xA0 cat"), published().tokens("a cat"));  // U+1FAE0, of Unicode 14
}

TEST(ClipTokenizer, AnUnknownSymbolIsTheEndToken) {
  const TemporaryFolder folder;
  folder.write("merges.txt", "#version\na b</w>\n");
  folder.write("vocab.json", R"({"a": 0, "b</w>": 1, "<|startoftext|>": 2, "<|endoftext|>": 3})");
  const ClipTokenizer tokenizer = ClipTokenizer::read(folder.path);
  EXPECT_THAT(tokenizer.tokens("ab aab b"), ElementsAre(3, 0, 3, 1));
}

TEST(ClipTokenizer, AMissingFileIsNamed) {
  const TemporaryFolder folder;
  EXPECT_THAT(reading_fails_with(folder), HasSubstr("merges.txt"));
  folder.write("merges.txt", "#version\n");
  EXPECT_THAT(reading_fails_with(folder), HasSubstr("vocab.json"));
}

TEST(ClipTokenizer, ABrokenLineOfMergesIsNamed) {
  const TemporaryFolder folder;
  folder.write("merges.txt", "#version\na b\na\n");
  EXPECT_THAT(reading_fails_with(folder), HasSubstr("merges.txt, line 3: expected two symbols, got 'a'"));
  folder.write("merges.txt", "#version\na b c\n");
  EXPECT_THAT(reading_fails_with(folder), HasSubstr("line 2"));
}

TEST(ClipTokenizer, AVocabularyWithoutTheSpecialTokensIsRefused) {
  const TemporaryFolder folder;
  folder.write("merges.txt", "#version\n");
  folder.write("vocab.json", R"({"a": 0})");
  EXPECT_THAT(reading_fails_with(folder), HasSubstr("<|startoftext|>"));
}

TEST(ClipTokenizer, AWordOfManyLettersTakesNoTimeWorthMentioning) {
  std::string word;
  for (int i = 0; i < 20000; ++i) word += static_cast<char>('a' + (i * 7919 + i * i) % 26);
  EXPECT_THAT(published().tokens(word), testing::Not(IsEmpty()));
}

}  // namespace
}  // namespace epd
