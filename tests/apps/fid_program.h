#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "apps/sample_program.h"
#include "epd/files/npz.h"
#include "epd/files/zip.h"
#include "epd/images/png.h"

namespace epd::test {

inline std::size_t count(const std::string& text, const std::string& part) {
  std::size_t found = 0;
  for (auto at = text.find(part); at != text.npos; at = text.find(part, at + 1)) ++found;
  return found;
}

/// The program `fid` on pictures of noise, with the demo's feature network.
class FidProgram : public ::testing::Test {
 protected:
  FidProgram() {
    for (unsigned i = 0; i < 90; ++i) write_picture("images", i, noise(16, 16, 3, i));
    for (unsigned i = 0; i < 70; ++i) write_picture("real", i, noise(16, 16, 3, 1000 + i));
  }
  void write_picture(const std::string& folder, unsigned number, const Image& image) {
    write(text(folder, "/", number, ".png"), encode_png(image));
  }
  void write(const std::string& name, const std::string& bytes) {
    fs::create_directories((folder_ / name).parent_path());
    write_file(folder_ / name, bytes);
  }
  std::string path(const std::string& name) const { return (folder_ / name).string(); }

  Child start(Arguments arguments, const Environment& environment) const {
    arguments.insert(arguments.begin(), std::string(EPD_BINARY_DIR) + "/bin/fid");
    return Child(arguments, environment, logs_.path().string());
  }
  Ended run(const Arguments& arguments, const Environment& environment = {}) const {
    return start(arguments, environment).wait(std::chrono::seconds(120));
  }
  std::vector<Ended> run_by(int size, const Arguments& arguments) const {
    return run_job(size, [&](const Environment& rank) { return start(arguments, rank); });
  }
  Arguments calc(const Arguments& more = {}) const {
    Arguments result{"calc",       "--images", path("images"), "--ref", path("real"),
                     "--detector", "demo",     "--device",     "cpu"};
    result.insert(result.end(), more.begin(), more.end());
    return result;
  }
  Arguments ref(const std::string& dest, const Arguments& more = {}) const {
    Arguments result{"ref", "--data", path("images"), "--dest", path(dest), "--detector", "demo", "--device", "cpu"};
    result.insert(result.end(), more.begin(), more.end());
    return result;
  }
  Arrays statistics(const std::string& dest) const { return read_npz(path(dest)); }
  nlohmann::json json(const std::string& name) const { return nlohmann::json::parse(read_file(path(name))); }
  void refuses(const Arguments& arguments, int code, const std::string& reason) const {
    const auto ended = run(arguments);
    EXPECT_EQ(ended.exit_code, code) << ended.errors;
    EXPECT_THAT(ended.errors, ::testing::HasSubstr(reason));
    EXPECT_EQ(count(ended.errors, "error: "), 1U) << ended.errors;
    EXPECT_EQ(ended.output, "");
  }

  TemporaryFolder folder_, logs_;
};

}  // namespace epd::test
