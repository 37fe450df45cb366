#include "clip_words.h"

#include <unicode/locid.h>
#include <unicode/normalizer2.h>
#include <unicode/regex.h>
#include <unicode/uchar.h>
#include <unicode/unistr.h>
#include <unicode/utf8.h>

#include <memory>

#include "epd/core/error.h"

namespace epd {
namespace {

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

/// The reference's pattern ignores case, which shows in two places on a text in lower case: the long s (U+017F) stands
/// for s, and U+0345 is no letter but a case of the letter iota, so that neither letters nor other signs include it.
const icu::RegexPattern& word_pattern() {
  static const std::unique_ptr<icu::RegexPattern> pattern = [] {
    UErrorCode status = U_ZERO_ERROR;
    UParseError where;
    const char16_t* text =
        u"<\\|[s\\u017F]tartoftext\\|>|<\\|endoftext\\|>|'[s\\u017F]|'t|'re|'ve|'m|'ll|'d|"
        u"\\p{L}+|\\p{N}|[^\\s\\p{L}\\p{N}\\u0345]+";
    std::unique_ptr<icu::RegexPattern> compiled(icu::RegexPattern::compile(text, where, status));
    EPD_REQUIRE(U_SUCCESS(status), "ICU cannot compile the tokenizer's pattern: ", u_errorName(status));
    return compiled;
  }();
  return *pattern;
}

}  // namespace

std::vector<std::string> clip_words(std::string_view text) {
  UErrorCode status = U_ZERO_ERROR;
  icu::UnicodeString line = icu::Normalizer2::getNFCInstance(status)->normalize(cleaned(text), status);
  line.toLower(icu::Locale::getRoot());
  const std::unique_ptr<icu::RegexMatcher> matcher(word_pattern().matcher(line, status));
  EPD_REQUIRE(U_SUCCESS(status), "ICU cannot normalise a prompt: ", u_errorName(status));
  std::vector<std::string> words;
  while (matcher->find(status)) matcher->group(status).toUTF8String(words.emplace_back());
  EPD_REQUIRE(U_SUCCESS(status), "ICU cannot split a prompt into words: ", u_errorName(status));
  return words;
}

}  // namespace epd
