#include "epd/text/clip_tokenizer.h"

#include <unicode/locid.h>
#include <unicode/normalizer2.h>
#include <unicode/uchar.h>
#include <unicode/unistr.h>
#include <unicode/utf8.h>

#include <algorithm>
#include <limits>
#include <new>
#include <utility>

#include "epd/core/error.h"
#include "epd/files/checksums.h"
#include "epd/files/json.h"

namespace epd {
namespace {

constexpr std::string_view kStart = "<|startoftext|>";
constexpr std::string_view kEnd = "<|endoftext|>";
constexpr const char* kWordEnd = "</w>";
constexpr std::size_t kMaxMerges = 49152 - 256 - 2;  // what the reference reads of a longer file

std::string read_beside_model(const std::filesystem::path& path) {
  EPD_REQUIRE(std::filesystem::exists(path), "cannot read ", path.string(),
              ": the tokenizer's vocab.json and merges.txt belong beside the model");
  return read_checked(path);
}

std::string utf8(std::uint32_t c) {
  std::array<char, U8_MAX_LENGTH> bytes;
  std::int32_t size = 0;
  U8_APPEND_UNSAFE(bytes.data(), size, c);
  return {bytes.data(), static_cast<std::size_t>(size)};
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

constexpr int kUnicodeVersion = 14;  // newer characters count as unassigned

bool is_left_out(UChar32 c) {
  UVersionInfo since;
  u_charAge(c, since);
  const auto other = U_GC_CC_MASK | U_GC_CF_MASK | U_GC_CN_MASK | U_GC_CO_MASK | U_GC_CS_MASK;  // "C" as a whole
  return c == 0xFFFD || (U_GET_GC_MASK(c) & other) != 0 || since[0] > kUnicodeVersion;
}

bool is_space(UChar32 c) {
  return c == '\t' || c == '\n' || c == '\r' || (U_GET_GC_MASK(c) & U_GC_Z_MASK) != 0;  // separators, of lines too
}

/// Chinese characters stand alone. These are the blocks that BERT's tokenizer names, newer extensions left out.
bool is_chinese(UChar32 c) {
  return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) || (c >= 0x20000 && c <= 0x2A6DF) ||
         (c >= 0x2A700 && c <= 0x2B73F) || (c >= 0x2B740 && c <= 0x2B81F) || (c >= 0x2B820 && c <= 0x2CEAF) ||
         (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x2F800 && c <= 0x2FA1F);
}

/// A string that ICU had no memory for is empty, and says so when asked.
void require_memory(const icu::UnicodeString& text) {
  if (text.isBogus()) throw std::bad_alloc();
}

icu::UnicodeString cleaned(std::string_view text) {
  icu::UnicodeString result;
  const auto length = static_cast<std::int64_t>(text.size());
  for (std::int64_t i = 0; i < length;) {
    UChar32 c;
    U8_NEXT_OR_FFFD(text.data(), i, length, c);
    if (is_space(c)) {
      result += u' ';
    } else if (is_left_out(c)) {
      continue;
    } else if (is_chinese(c)) {
      result.append(u' ').append(c).append(u' ');
    } else {
      result += c;
    }
  }
  return result;
}

/// NFC, then lower case.
std::u32string normalised(std::string_view text) {
  const auto require_success = [](UErrorCode status) {
    if (status == U_MEMORY_ALLOCATION_ERROR) throw std::bad_alloc();
    EPD_REQUIRE(U_SUCCESS(status), "ICU cannot normalise a prompt: ", u_errorName(status));
  };
  UErrorCode status = U_ZERO_ERROR;
  const icu::Normalizer2* const nfc = icu::Normalizer2::getNFCInstance(status);
  require_success(status);
  const icu::UnicodeString clean = cleaned(text);
  require_memory(clean);
  icu::UnicodeString line = nfc->normalize(clean, status);
  require_success(status);
  line.toLower(icu::Locale::getRoot());
  require_memory(line);
  std::u32string result;
  for (std::int32_t i = 0; i < line.length(); i = line.moveIndex32(i, 1)) {
    result += static_cast<char32_t>(line.char32At(i));
  }
  return result;
}

bool has_category(char32_t c, std::uint32_t mask) { return (U_GET_GC_MASK(static_cast<UChar32>(c)) & mask) != 0; }
bool is_letter(char32_t c) { return has_category(c, U_GC_L_MASK); }
bool is_number(char32_t c) { return has_category(c, U_GC_N_MASK); }
/// Where case is ignored, as in the reference, U+0345 is a case of the letter iota: no sign, and no letter either.
bool is_sign(char32_t c) {
  return !is_letter(c) && !is_number(c) && c != 0x345 && !u_isUWhiteSpace(static_cast<UChar32>(c));
}

/// How many characters the word at the start of the text has; 0: none begins there. This is the reference's pattern,
/// which ignores case, so that the long s (U+017F) stands for s:
///     <|startoftext|>|<|endoftext|>|'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+
/// ICU's own regular expressions crash where an allocation fails.
std::size_t word_size(std::u32string_view text) {
  for (const std::u32string_view word : {U"<|startoftext|>", U"<|\u017Ftartoftext|>", U"<|endoftext|>", U"'s",
                                         U"'\u017F", U"'t", U"'re", U"'ve", U"'m", U"'ll", U"'d"}) {
    if (text.starts_with(word)) return word.size();
  }
  if (is_number(text.front())) return 1;
  const auto end = std::ranges::find_if_not(text, is_letter(text.front()) ? is_letter : is_sign);
  return static_cast<std::size_t>(end - text.begin());
}

/// The words that a UTF-8 text is split into, in lower case: runs of letters, single digits, runs of other signs, and a
/// few endings such as 's.
std::vector<std::string> clip_words(std::string_view text) {
  std::vector<std::string> words;
  const std::u32string line = normalised(text);
  for (std::u32string_view rest = line; !rest.empty();) {
    const std::size_t size = word_size(rest);
    if (size > 0) words.emplace_back();
    for (const char32_t c : rest.substr(0, size)) words.back() += utf8(c);
    rest.remove_prefix(std::max<std::size_t>(size, 1));
  }
  return words;
}
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
  auto lines = stream_of(read_beside_model(path));
  std::string line;
  std::getline(lines, line);  // "#version: 0.2"
  for (std::uint32_t rank = 0; rank < kMaxMerges && std::getline(lines, line); ++rank) {
    auto words = stream_of(line);
    std::string left, right, surplus;
    words >> left >> right;
    if (left.empty() && (lines >> std::ws).eof()) return;  // blank lines at the end
    EPD_REQUIRE(!right.empty() && !(words >> surplus), path.string(), ", line ", rank + 2,
                ": expected two symbols, got '", line, "'");
    merges_[pair_key(symbol(left), symbol(right))] = {rank, symbol(left + right)};
  }
}

void ClipTokenizer::read_vocabulary(const std::filesystem::path& path) {
  JsonReader vocabulary = JsonReader::parse(read_beside_model(path), path.string());
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
