#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "epd/files/zip.h"
#include "support/test_files.h"

namespace epd {
namespace {

using test::error_of;
using test::fixture;
using test::TemporaryFolder;
using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(ZipReader, ReadsDeflatedStoredAndZip64Entries) {
  const ZipReader deflated(fixture("pictures.zip"));
  EXPECT_EQ(deflated.size(), 49u);
  for (std::size_t i = 0; i < deflated.size(); ++i) {
    EXPECT_EQ(deflated.read(i).size(), deflated.entries()[i].size);
  }
  const ZipReader wide(fixture("zip64.zip"));
  EXPECT_EQ(wide.read(*wide.find("2.txt")), "entry 2");
  EXPECT_TRUE(wide.entries()[0].stored);
  EXPECT_FALSE(wide.find("3.txt").has_value());
}

void write_sample(const std::filesystem::path& path) {
  ZipWriter zip(path);
  zip.add("a.txt", "first");
  zip.begin("folder/b.bin");
  zip.append("in ");
  zip.append("pieces");
  zip.end();
  zip.add("empty", "");
  zip.add("gr\u00fc\u00dfe", "named in UTF-8");
  zip.finish();
}

TEST(ZipWriter, WritesWhatTheReaderReads) {
  const TemporaryFolder folder;
  write_sample(folder / "x.zip");
  const ZipReader reader(folder / "x.zip");
  ASSERT_EQ(reader.size(), 4u);
  EXPECT_EQ(reader.read(0), "first");
  EXPECT_EQ(reader.entries()[1].name, "folder/b.bin");
  EXPECT_EQ(reader.read(1), "in pieces");
  EXPECT_EQ(reader.read(2), "");
  EXPECT_EQ(reader.read(*reader.find("gr\u00fc\u00dfe")), "named in UTF-8");
}

TEST(ZipWriter, BytesDependOnNamesAndContentsAlone) {
  const TemporaryFolder folder;
  write_sample(folder / "x.zip");
  write_sample(folder / "y.zip");
  EXPECT_EQ(read_file(folder / "x.zip"), read_file(folder / "y.zip"));
}

TEST(ZipWriter, MoreThan65535EntriesNeedZip64AndGetIt) {
  const TemporaryFolder folder;
  ZipWriter zip(folder / "many.zip");
  for (int i = 0; i < 70'000; ++i) zip.add(std::to_string(i), std::to_string(i));
  zip.finish();
  const ZipReader reader(folder / "many.zip");
  ASSERT_EQ(reader.size(), 70'000u);
  EXPECT_EQ(reader.read(69'999), "69999");
}

TEST(ZipWriter, MisuseIsAnErrorAndLeavesNothing) {
  const TemporaryFolder folder;
  {
    ZipWriter zip(folder / "x.zip");
    zip.add("a", "1");
    EXPECT_THAT(error_of([&] { zip.add("a", "2"); }), HasSubstr("in it already"));
    EXPECT_THAT(error_of([&] { zip.append("2"); }), HasSubstr("no entry is open"));
    zip.begin("b");
    EXPECT_THAT(error_of([&] { zip.add("c", "2"); }), HasSubstr("before b ends"));
    EXPECT_THAT(error_of([&] { zip.finish(); }), HasSubstr("b is not complete"));
  }
  EXPECT_EQ(folder.count(), 0u);
}

TEST(ZipReader, ReadsPartsOfEntries) {
  const TemporaryFolder folder;
  ZipWriter zip(folder / "x.zip");
  zip.add("other", "xxxxxxxxxxxxxxxx");
  zip.add("digits", "0123456789");
  zip.finish();
  const ZipReader reader(folder / "x.zip");
  EXPECT_EQ(reader.read_start(1, 4), "0123");
  EXPECT_EQ(reader.read_start(1, 400), "0123456789");
  std::string part(3, ' ');
  reader.read_range(1, 7, part.data(), 3);
  EXPECT_EQ(part, "789");
  reader.read_range(1, 2, part.data(), 3);
  EXPECT_EQ(part, "234");
  EXPECT_THAT(error_of([&] { reader.read_range(1, 8, part.data(), 3); }), HasSubstr("digits"));
}

TEST(ZipReader, EveryTruncationIsAnErrorThatNamesTheFile) {
  const TemporaryFolder folder;
  for (const char* name : {"zip64.zip", "dataset.zip"}) {
    const std::string bytes = read_file(fixture(name));
    for (std::size_t length = 0; length < bytes.size(); ++length) {
      write_file(folder / "cut.zip", std::string_view(bytes).substr(0, length));
      EXPECT_THAT(error_of([&] { ZipReader(folder / "cut.zip"); }), HasSubstr("cut.zip")) << length;
    }
  }
}

TEST(ZipReader, ABadChecksumNamesEntryAndArchive) {
  const TemporaryFolder folder;
  write_sample(folder / "x.zip");
  std::string bytes = read_file(folder / "x.zip");
  bytes[bytes.find("first")] = 'F';
  write_file(folder / "bad.zip", bytes);
  const ZipReader reader(folder / "bad.zip");
  EXPECT_THAT(error_of([&] { reader.read(0); }), AllOf(HasSubstr("a.txt"), HasSubstr("bad.zip"), HasSubstr("CRC")));
  EXPECT_EQ(reader.read(1), "in pieces");
}

TEST(ZipReader, SizesThatTheArchiveCannotHoldAreRefused) {
  const TemporaryFolder folder;
  ZipWriter zip(folder / "x.zip");
  zip.add("a", "12345");
  zip.finish();
  std::string bytes = read_file(folder / "x.zip");
  const std::size_t directory = bytes.rfind("PK\1\2");
  bytes.replace(directory + 20, 8, std::string("\0\0\0\x70\0\0\0\x70", 8));  // 1.9 GB, stored
  write_file(folder / "bomb.zip", bytes);
  EXPECT_THAT(error_of([&] { ZipReader(folder / "bomb.zip").read(0); }), HasSubstr("bomb.zip"));
  const ZipReader good(folder / "x.zip");
  EXPECT_THAT(error_of([&] { good.read(0, 4); }), HasSubstr("5 bytes, more than the 4"));
}

TEST(ZipReader, NoDamageCrashesIt) {
  const TemporaryFolder folder;
  std::mt19937 generator(5);
  const std::string good = read_file(fixture("kinds_compressed.npz"));
  for (int trial = 0; trial < 300; ++trial) {
    std::string bad = good;
    for (int change = 0; change < 4; ++change) bad[generator() % bad.size()] = static_cast<char>(generator());
    write_file(folder / "bad.zip", bad);
    try {
      const ZipReader reader(folder / "bad.zip");
      for (std::size_t i = 0; i < reader.size(); ++i) reader.read(i);
    } catch (const Error& e) {
      EXPECT_THAT(e.what(), HasSubstr("bad.zip"));
    }
  }
}

TEST(ZipReader, WhatIsNoArchiveIsSaidToBeNone) {
  const TemporaryFolder folder;
  EXPECT_THAT(error_of([&] { ZipReader(folder / "none.zip"); }), HasSubstr("does not exist"));
  // What the system refuses to look at may well be there.
  std::filesystem::create_symlink("loop.zip", folder / "loop.zip");
  EXPECT_THAT(error_of([&] { ZipReader(folder / "loop.zip"); }), HasSubstr("Too many levels of symbolic links"));
  EXPECT_THAT(error_of([&] { ZipReader(folder / std::string(300, 'z')); }), HasSubstr("File name too long"));
  EXPECT_THAT(error_of([&] { ZipReader{folder.path()}; }), HasSubstr("not a file"));
  write_file(folder / "empty.zip", "");
  EXPECT_THAT(error_of([&] { ZipReader(folder / "empty.zip"); }), HasSubstr("empty"));
  write_file(folder / "text.zip", std::string(1000, 'x'));
  EXPECT_THAT(error_of([&] { ZipReader(folder / "text.zip"); }), HasSubstr("no zip archive"));
}

}  // namespace
}  // namespace epd
