#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace epd {

/// The words that CLIP's tokenizer splits a UTF-8 text into, in lower case: runs of letters, single digits, runs of
/// other signs, and a few endings such as 's.
std::vector<std::string> clip_words(std::string_view text);

}  // namespace epd
