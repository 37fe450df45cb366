#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "distributed/job.h"
#include "epd/documents/predictor_json.h"
#include "epd/files/atomic_file.h"
#include "support/test_files.h"
#include "support/tiny_model.h"

namespace epd::test {

namespace fs = std::filesystem;
using Arguments = std::vector<std::string>;

/// A test that runs the program `sample` on a tiny class-conditional model of its own.
class SampleProgram : public ::testing::Test {
 protected:
  SampleProgram() {
    model_.facts.condition = ConditionKind::kLabel;
    model_.facts.label_dim = 4;
    testing::make_tiny_model(model_path(), model_);
  }

  std::string model_path() const { return (folder_ / "denoiser.ts").string(); }
  fs::path out(const std::string& name) const { return folder_ / name; }

  /// A small run of a classical solver; `more` comes behind and wins.
  Arguments command(const std::string& outdir, const Arguments& more = {}) const {
    return command_with({"--solver", "euler", "--num_steps", "3"}, outdir, more);
  }

  /// The same with a predictor in place of the solver.
  Arguments command(const std::string& outdir, const PredictorSpec& spec, const Arguments& more = {}) const {
    return command_with({"--predictor_path", write("predictor.json", predictor_text(spec))}, outdir, more);
  }

  Child start(const Arguments& command, const Environment& environment = {}) const {
    return Child(command, environment, logs_.path().string());
  }
  Ended run(const std::string& outdir, const Arguments& more = {}, const Environment& environment = {}) const {
    return start(command(outdir, more), environment).wait(std::chrono::seconds(120));
  }
  /// The same by several processes.
  std::vector<Ended> run_by(int size, const std::string& outdir, const Arguments& more) const {
    return run_by(size, command(outdir, more));
  }
  std::vector<Ended> run_by(int size, const Arguments& command) const {
    return run_job(size, [&](const Environment& rank) { return start(command, rank); });
  }

  /// Every file of a run but its record: name and bytes.
  std::map<std::string, std::string> files(const std::string& outdir) const {
    std::map<std::string, std::string> result;
    for (const auto& entry : fs::recursive_directory_iterator(out(outdir))) {
      if (entry.is_directory() || entry.path().filename() == "manifest.json") continue;
      result[fs::relative(entry.path(), out(outdir)).string()] = read_file(entry.path());
    }
    return result;
  }

  /// A predictor for the tiny model.
  PredictorSpec predictor() const {
    PredictorSpec spec;
    spec.dataset_name = model_.facts.dataset_name;
    spec.resolution = model_.facts.resolution;
    spec.channels = model_.facts.channels;
    spec.label_dim = model_.facts.label_dim;
    spec.parameters().raw.assign(spec.num_parameters(), 0.25);
    return spec;
  }
  std::string write(const std::string& name, const std::string& bytes) const {
    write_file(folder_ / name, bytes);
    return (folder_ / name).string();
  }

  testing::TinyModelOptions model_;
  TemporaryFolder folder_, logs_;

 private:
  Arguments command_with(const Arguments& method, const std::string& outdir, const Arguments& more) const {
    Arguments result{std::string(EPD_BINARY_DIR) + "/bin/sample", "--device", "cpu", "--model_path", model_path()};
    result.insert(result.end(), method.begin(), method.end());
    result.insert(result.end(), {"--chunk", "4", "--outdir", out(outdir).string()});
    result.insert(result.end(), more.begin(), more.end());
    return result;
  }
};

}  // namespace epd::test
