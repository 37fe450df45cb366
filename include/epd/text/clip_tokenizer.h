#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace epd {

/// CLIP's byte-pair tokenizer (Radford et al. 2021), token for token as the slow CLIPTokenizer of transformers 4.46.3
/// does it without ftfy: clean the text, lower-case it, split it into words, merge each word's bytes by rank.
///
/// Characters newer than Unicode 14 count as unassigned and are left out, as they are under Python 3.11; so the tokens
/// do not depend on which ICU is installed.
class ClipTokenizer {
 public:
  using Token = std::int64_t;

  /// Reads vocab.json (token to number) and merges.txt (a comment line, then pairs by rank) in `folder`. Throws Error,
  /// naming the file and what is wrong in it.
  static ClipTokenizer read(const std::filesystem::path& folder);

  /// The tokens of a text in UTF-8, without start and end, however many. Bytes that are no UTF-8 are left out.
  std::vector<Token> tokens(std::string_view text) const;

  /// `length` tokens: start, the text's tokens (cut to length - 2), end, padding (which is the end token again).
  std::vector<Token> encode(std::string_view text, std::size_t length = 77) const;

 private:
  using Symbol = std::uint32_t;  // a number of our own: merged symbols need not be in the vocabulary
  struct Merge {
    std::uint32_t rank;
    Symbol merged;
  };

  Symbol symbol(const std::string& text);
  void read_merges(const std::filesystem::path& path);
  void read_vocabulary(const std::filesystem::path& path);
  void append_piece(std::string_view text, std::vector<Token>& tokens) const;
  std::vector<Symbol> merged_symbols(std::string_view word) const;

  std::unordered_map<std::string, Symbol> symbols_;
  std::unordered_map<std::uint64_t, Merge> merges_;  // key: left symbol * 2^32 + right symbol
  std::vector<Token> token_of_;                      // of each symbol
  std::array<Symbol, 256> byte_{};                   // a byte inside a word
  std::array<Symbol, 256> last_byte_{};              // the last byte of a word
  Token start_ = 0;
  Token end_ = 0;
};

}  // namespace epd
