#include "epd/text/clip_tokenizer.h"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <limits>
#include <sstream>
#include <utility>

#include "clip_words.h"
#include "epd/core/error.h"
#include "epd/files/json_reader.h"

namespace epd {
namespace {

constexpr std::string_view kStart = "<|startoftext|>";
constexpr std::string_view kEnd = "<|endoftext|>";
constexpr const char* kWordEnd = "</w>";
constexpr std::size_t kMaxMerges = 49152 - 256 - 2;  // what the reference reads of a longer file

std::string read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  EPD_REQUIRE(file, "cannot read ", path.string(),
              ": the tokenizer's vocab.json and merges.txt belong beside the model");
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

std::string utf8(std::uint32_t c) {  // up to U+07FF
  if (c < 0x80) return {static_cast<char>(c)};
  return {static_cast<char>(0xC0 | (c >> 6)), static_cast<char>(0x80 | (c & 0x3F))};
}

/// How the vocabulary writes a byte: as the Latin-1 character where that can be seen, else as U+0100 and on, in order.
std::array<std::string, 256> byte_names() {
  std::array<std::string, 256> names;
  std::uint32_t next = 0x100;
  for (std::uint32_t b = 0; b < 256; ++b) {
    const bool visible = (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
    names[b] = utf8(visible ? b : next++);
  }
  return names;
}

std::uint64_t pair_key(std::uint32_t left, std::uint32_t right) { return (std::uint64_t{left} << 32) | right; }

}  // namespace

ClipTokenizer ClipTokenizer::read(const std::filesystem::path& folder) {
  ClipTokenizer tokenizer;
  const auto names = byte_names();
  for (std::size_t b = 0; b < names.size(); ++b) {
    tokenizer.byte_[b] = tokenizer.symbol(names[b]);
    tokenizer.last_byte_[b] = tokenizer.symbol(names[b] + kWordEnd);
  }
  tokenizer.read_merges(folder / "merges.txt");
  tokenizer.read_vocabulary(folder / "vocab.json");
  return tokenizer;
}

ClipTokenizer::Symbol ClipTokenizer::symbol(const std::string& text) {
  return symbols_.emplace(text, static_cast<Symbol>(symbols_.size())).first->second;
}

void ClipTokenizer::read_merges(const std::filesystem::path& path) {
  std::istringstream lines(read_file(path));
  std::string line;
  std::getline(lines, line);  // "#version: 0.2"
  for (std::uint32_t rank = 0; rank < kMaxMerges && std::getline(lines, line); ++rank) {
    std::istringstream words(line);
    std::string left, right, surplus;
    words >> left >> right;
    if (left.empty() && (lines >> std::ws).eof()) return;  // blank lines at the end
    EPD_REQUIRE(!right.empty() && !(words >> surplus), path.string(), ", line ", rank + 2,
                ": expected two symbols, got '", line, "'");
    merges_[pair_key(symbol(left), symbol(right))] = {rank, symbol(left + right)};
  }
}

void ClipTokenizer::read_vocabulary(const std::filesystem::path& path) {
  JsonReader vocabulary = JsonReader::parse(read_file(path), path.string());
  const auto number = [&](std::string_view text) {
    return vocabulary.integer(std::string(text), 0, std::numeric_limits<std::int32_t>::max());
  };
  start_ = number(kStart);
  end_ = number(kEnd);
  token_of_.resize(symbols_.size());
  // What is not in the vocabulary is unknown, and the unknown token is the end token.
  for (const auto& [text, index] : symbols_) token_of_[index] = vocabulary.has(text) ? number(text) : end_;
}

std::vector<ClipTokenizer::Token> ClipTokenizer::tokens(std::string_view text) const {
  std::vector<Token> result;
  while (true) {  // special tokens stand for themselves where they are written exactly so
    const std::size_t start = text.find(kStart), end = text.find(kEnd), cut = std::min(start, end);
    append_piece(text.substr(0, cut), result);
    if (cut == std::string_view::npos) return result;
    result.push_back(start < end ? start_ : end_);
    text.remove_prefix(cut + (start < end ? kStart : kEnd).size());
  }
}

void ClipTokenizer::append_piece(std::string_view text, std::vector<Token>& tokens) const {
  for (const std::string& word : clip_words(text)) {
    if (word == kStart || word == kEnd) {  // in upper case before
      tokens.push_back(word == kStart ? start_ : end_);
    } else {
      for (const Symbol part : merged_symbols(word)) tokens.push_back(token_of_[part]);
    }
  }
}

std::vector<ClipTokenizer::Symbol> ClipTokenizer::merged_symbols(std::string_view word) const {
  std::vector<Symbol> parts;
  for (const char c : word) parts.push_back(byte_[static_cast<unsigned char>(c)]);
  parts.back() = last_byte_[static_cast<unsigned char>(word.back())];
  while (true) {
    const Merge* best = nullptr;
    Symbol left = 0, right = 0;
    for (std::size_t i = 0; i + 1 < parts.size(); ++i) {
      const auto found = merges_.find(pair_key(parts[i], parts[i + 1]));
      if (found == merges_.end() || (best && best->rank <= found->second.rank)) continue;
      best = &found->second;
      left = parts[i];
      right = parts[i + 1];
    }
    if (!best) return parts;
    std::size_t kept = 0;  // every occurrence of the pair, from the left
    for (std::size_t i = 0; i < parts.size(); ++i) {
      const bool merge = i + 1 < parts.size() && parts[i] == left && parts[i + 1] == right;
      parts[kept++] = merge ? best->merged : parts[i];
      if (merge) ++i;
    }
    parts.resize(kept);
  }
}

std::vector<ClipTokenizer::Token> ClipTokenizer::encode(std::string_view text, std::size_t length) const {
  EPD_REQUIRE(length >= 2, "a text needs at least 2 tokens, start and end, got room for ", length);
  std::vector<Token> result = tokens(text);
  result.resize(std::min(result.size(), length - 2));
  result.insert(result.begin(), start_);
  result.resize(length, end_);
  return result;
}

}  // namespace epd
