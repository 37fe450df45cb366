#include <gmock/gmock.h>

#include <cstdint>
#include <functional>
#include <string>

#include "epd/core/error.h"
#include "epd/text/prompts.h"
#include "text/support.h"

namespace epd {
namespace {

using testing::HasSubstr;

std::string fails_with(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "nothing";
}

std::string reading_fails_with(const std::string& name, std::string_view content) {
  const TemporaryFolder folder;
  return fails_with([&] { Prompts::read(folder.write(name, content)); });
}

Prompts read(const std::string& name, std::string_view content) {
  const TemporaryFolder folder;
  return Prompts::read(folder.write(name, content));
}

TEST(Prompts, LineIBelongsToSeedI) {
  const Prompts prompts = read("p.txt", "a cat\r\n\n  two, \"words\"\nlast");
  ASSERT_EQ(prompts.size(), 4u);
  EXPECT_EQ(prompts.for_seed(0), "a cat");
  EXPECT_EQ(prompts.for_seed(1), "");
  EXPECT_EQ(prompts.for_seed(2), "  two, \"words\"");
  EXPECT_EQ(prompts.for_seed(3), "last");
}

TEST(Prompts, ANewlineAtTheEndIsNoFurtherCaption) { EXPECT_EQ(read("p.txt", "a\nb\n").size(), 2u); }

TEST(Prompts, TheTextColumnKeepsQuotesCommasNewlinesAndSpaces) {
  const Prompts prompts = read("p.csv",
                               "id,text,file\n"
                               "1,plain caption ,a.jpg\n"
                               "2,\"with, comma\",b.jpg\n"
                               "\n"
                               "3,\"say \"\"hi\"\"\nand more\",c.jpg\r\n"
                               "4, a 5\" pipe,d.jpg");
  ASSERT_EQ(prompts.size(), 4u);
  EXPECT_EQ(prompts.for_seed(0), "plain caption ");
  EXPECT_EQ(prompts.for_seed(1), "with, comma");
  EXPECT_EQ(prompts.for_seed(2), "say \"hi\"\nand more");
  EXPECT_EQ(prompts.for_seed(3), " a 5\" pipe");
}

TEST(Prompts, AColumnOfNegativePromptsMayStandBesideTheText) {
  const Prompts prompts = read("p.csv", "negative_prompt,text\nblurry,a\n,b\n\"x, y\",c\n");
  EXPECT_TRUE(prompts.has_negatives());
  EXPECT_EQ(prompts.negative(0) + "|" + prompts.negative(1) + "|" + prompts.negative(5), "blurry||x, y");
  EXPECT_EQ(prompts.for_seed(2), "c");
  for (const auto& plain : {read("p.csv", "text\na\n"), read("p.txt", "a\n")}) {
    EXPECT_FALSE(plain.has_negatives());
    EXPECT_EQ(plain.negative(0), "");
  }
  EXPECT_THAT(reading_fails_with("p.csv", "text,negative_prompt\na\n"),
              HasSubstr("ends before the column 'negative_prompt'"));
}

TEST(Prompts, AByteOrderMarkIsNotPartOfTheText) {
  EXPECT_EQ(read("p.CSV", "\xEF\xBB\xBFtext\nA caf\xC3\xA9\n").for_seed(0), "A caf\xC3\xA9");
  EXPECT_EQ(read("p.txt", "\xEF\xBB\xBFone\n").for_seed(0), "one");
}

TEST(Prompts, ASeedBeyondTheLastCaptionIsRefusedWithTheNumbers) {
  const Prompts prompts = read("p.txt", "a\nb\n");
  EXPECT_THAT(fails_with([&] { prompts.for_seed(2); }),
              HasSubstr("has 2 prompts, for the seeds 0 to 1: none for seed 2"));
  EXPECT_THROW(prompts.for_seed(std::uint64_t{1} << 33), UsageError);
}

TEST(Prompts, AFileWithoutPromptsIsRefused) {
  EXPECT_THAT(reading_fails_with("p.txt", ""), HasSubstr("p.txt holds no prompt"));
  EXPECT_THAT(reading_fails_with("p.csv", "text\n"), HasSubstr("p.csv holds no prompt"));
  EXPECT_THAT(reading_fails_with("p.csv", ""), HasSubstr("p.csv is empty"));
}

TEST(Prompts, AMissingColumnOrFieldOrClosingQuoteIsNamed) {
  EXPECT_THAT(reading_fails_with("p.csv", "id,caption\n1,a\n"), HasSubstr("no column called 'text'"));
  EXPECT_THAT(reading_fails_with("p.csv", "id,text\n1,a\n2\n"), HasSubstr("row 2 has 1 fields"));
  EXPECT_THAT(reading_fails_with("p.csv", "id,text\n1,\"a\n2,b\n"), HasSubstr("never closed"));
}

TEST(Prompts, ABadRowIsNamedWithTheLineThatItBeginsIn) {
  EXPECT_THAT(reading_fails_with("p.csv", "id,text\n1,a\n2\n"), HasSubstr("p.csv: line 3: row 2"));
  EXPECT_THAT(reading_fails_with("p.csv", "id,text\r\n\r\n1,\"two\n\nlines\"\r\n\n2\r\n3,b"),
              HasSubstr("line 7: row 2"));
  EXPECT_THAT(reading_fails_with("p.csv", "text,id\n\"a\n\nb\",1\n\"open,\n2,c\nd,3\n"), HasSubstr("line 5: a quoted"));
}

TEST(Prompts, AFileThatCannotBeReadIsNamed) {
  const TemporaryFolder folder;
  EXPECT_THAT(fails_with([&] { Prompts::read(folder.path / "none.txt"); }), HasSubstr("none.txt"));
  EXPECT_THAT(fails_with([&] { Prompts::read(folder.path); }), HasSubstr("cannot read"));
}

}  // namespace
}  // namespace epd
