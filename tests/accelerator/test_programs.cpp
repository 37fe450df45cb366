// The real programs, unmodified, with the stand-in preloaded: by one process and by three, with a device each.
#include <gmock/gmock.h>

#include <nlohmann/json.hpp>
#include <vector>

#include "accelerator/on_device.h"
#include "distributed/job.h"
#include "epd/documents/predictor_json.h"

namespace epd::test {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using Arguments = std::vector<std::string>;

class ProgramsOnDevice : public ::testing::Test {
 protected:
  static constexpr std::chrono::seconds kPatience{300};

  std::string at(const std::string& name) const { return (family_ / name).string(); }

  Ended run_on_cpu(Arguments command) const {
    command.insert(command.end(), {"--device", "cpu"});
    return Child(command, {{"EPD_CACHE", at("cache")}}, logs_.path().string()).wait(kPatience);
  }

  /// The program by so many processes with a device each. All end well, and each uses no device but its own, leaves no
  /// memory on it, and never uses memory out of order.
  std::vector<Ended> run_on_devices(int size, Arguments command, Environment more = {}) {
    command.insert(command.end(), {"--device", "standin"});
    more["LD_PRELOAD"] = EPD_STANDIN;
    more["EPD_CACHE"] = at("cache");
    const auto start = [&](Environment environment) {
      environment.insert(more.begin(), more.end());
      environment["STANDIN_REPORT"] = at("report-" + (size > 1 ? environment.at("RANK") : "0"));
      return Child(command, environment, logs_.path().string());
    };
    if (size > 1) return run_job(size, start, kPatience);
    return {start({}).wait(kPatience)};
  }
  void expect_good(int size, const Arguments& command) {
    const auto ended = run_on_devices(size, command);
    for (int rank = 0; rank < size; ++rank) {
      EXPECT_EQ(ended[static_cast<std::size_t>(rank)].exit_code, 0) << ended[static_cast<std::size_t>(rank)].errors;
      const auto report = json::parse(read_file(at(text("report-", rank))));
      for (int device = 0; device < static_cast<int>(report.size()); ++device) {
        const auto& stats = report[static_cast<std::size_t>(device)];
        const auto of = text("rank ", rank, ", device ", device, ": ", stats.dump());
        EXPECT_EQ(stats["used"].get<bool>(), device == rank) << of;
        EXPECT_EQ(stats["bytes"], 0) << of;
        EXPECT_EQ(stats["violations"], 0) << of;
        EXPECT_EQ(stats["kernels"].get<int>() > 0, device == rank) << of;
      }
    }
  }

  static Arguments program(const char* name, const Arguments& arguments, const Arguments& more = {}) {
    Arguments result{text(EPD_BINARY_DIR, "/bin/", name)};
    result.insert(result.end(), arguments.begin(), arguments.end());
    result.insert(result.end(), more.begin(), more.end());
    return result;
  }
  Arguments sample(const std::string& outdir, const Arguments& more = {}) const {
    return program("sample",
                   {"--model_path", at("denoiser.ts"), "--solver", "heun", "--num_steps", "3", "--seeds", "0-12",
                    "--batch", "6", "--chunk", "4", "--rng", "cpu", "--outdir", at(outdir)},
                   more);
  }
  Arguments train(const std::string& outdir, const Arguments& more = {}) const {
    return program("train",
                   {"--dataset_name",
                    "tiny",
                    "--model_path",
                    at("denoiser.ts"),
                    "--detector",
                    at("features.ts"),
                    "--outdir",
                    at(outdir),
                    "--nosubdir",
                    "--batch",
                    "6",
                    "--total_kimg",
                    "0.012",
                    "--chunk",
                    "4",
                    "--num_steps",
                    "3",
                    "--M",
                    "1",
                    "--seed",
                    "3"},
                   more);
  }

  const TinyFamily family_{Family::kOneHot};
  const TemporaryFolder logs_;
};

TEST_F(ProgramsOnDevice, SampleDrawsTheSameImages) {
  ASSERT_EQ(run_on_cpu(sample("cpu")).exit_code, 0);
  expect_good(1, sample("one"));
  expect_good(3, sample("three"));
  expect_same_images(at("cpu"), at("one"));
  EXPECT_EQ(files_below(at("three")), files_below(at("one")));
}

TEST_F(ProgramsOnDevice, TrainLearnsTheSame) {
  ASSERT_EQ(run_on_cpu(train("cpu")).exit_code, 0);
  expect_good(1, train("one"));
  expect_good(3, train("three"));
  EXPECT_EQ(read_file(at("three/predictor.json")), read_file(at("one/predictor.json")));
  const auto expected = read_predictor(at("cpu/predictor.json")).parameters().raw;
  EXPECT_THAT(read_predictor(at("one/predictor.json")).parameters().raw,
              ::testing::Pointwise(::testing::DoubleNear(1e-3), expected));
}

TEST_F(ProgramsOnDevice, FidFindsTheSameNumbers) {
  ASSERT_EQ(run_on_cpu(sample("images", {"--seeds", "0-39"})).exit_code, 0);
  ASSERT_EQ(run_on_cpu(sample("real", {"--seeds", "100-139"})).exit_code, 0);
  const auto ref = [&](const std::string& dest) {
    return program("fid", {"ref", "--data", at("real"), "--dest", at(dest + ".npz"), "--detector", at("features.ts"),
                           "--save_features"});
  };
  const auto calc = [&](const std::string& name) {
    return program("fid", {"calc", "--images", at("images"), "--ref", at(name + ".npz"), "--detector",
                           at("features.ts"), "--metrics", "fid,kid,prdc", "--json", at(name + ".json")});
  };
  const auto scores = [&](const std::string& name) {
    const auto record = json::parse(read_file(at(name + ".json")));
    std::map<std::string, double> numbers;
    for (const char* part : {"fid", "frechet", "kid", "prdc"}) {
      const auto values = json::object({{part, record.at(part)}}).flatten();
      for (const auto& [key, value] : values.items()) {
        if (value.is_number()) numbers[key] = value.get<double>();
      }
    }
    return numbers;
  };
  ASSERT_EQ(run_on_cpu(ref("cpu")).exit_code, 0);
  ASSERT_EQ(run_on_cpu(calc("cpu")).exit_code, 0);
  const auto expected = scores("cpu");
  ASSERT_GE(expected.size(), 6U);
  for (const int size : {1, 3}) {
    const auto name = text("device-", size);
    expect_good(size, ref(name));
    expect_good(size, calc(name));
    const auto found = scores(name);
    ASSERT_EQ(found.size(), expected.size());
    for (const auto& [key, value] : expected) {
      EXPECT_NEAR(found.at(key), value, 1e-6 * (1 + std::abs(value))) << size << " processes, " << key;
    }
  }
}

TEST_F(ProgramsOnDevice, CompareFindsTheSameRows) {
  const auto compare = [&](const std::string& outdir) {
    return program("compare", {"--model_path", at("denoiser.ts"),
                               "--detector",   at("features.ts"),
                               "--outdir",     at(outdir),
                               "--seeds",      "0-12",
                               "--chunk",      "4",
                               "--batch",      "8",
                               "--solvers",    "euler",
                               "--schedules",  "polynomial",
                               "--nfe",        "4",
                               "--extra",      "heun@polynomial#5"});
  };
  const auto rows = [&](const std::string& outdir) {
    return json::parse(read_file(at(outdir + "/results.json"))).at("rows");
  };
  ASSERT_EQ(run_on_cpu(compare("cpu")).exit_code, 0);
  const auto expected = rows("cpu");
  for (const int size : {1, 3}) {
    const auto name = text("device-", size);
    expect_good(size, compare(name));
    const auto found = rows(name);
    ASSERT_EQ(found.size(), expected.size());
    for (std::size_t i = 0; i < found.size(); ++i) {
      for (const char* key : {"rmse", "fd_exact"}) {
        const double value = expected[i].at(key).get<double>();
        EXPECT_NEAR(found[i].at(key).get<double>(), value, 1e-4 * (1 + std::abs(value))) << name << " " << key;
      }
    }
  }
}

TEST_F(ProgramsOnDevice, AFullDeviceAndABrokenOneAreOneLine) {
  for (const auto& [variable, value, reason] :
       {std::tuple{"STANDIN_MEMORY", "20000", "out of memory"}, {"STANDIN_FAIL", "200", "an operation failed"}}) {
    const auto ended = run_on_devices(1, sample("failed"), {{variable, value}})[0];
    EXPECT_EQ(ended.exit_code, 1) << ended.errors;
    EXPECT_EQ(error_lines(ended.errors), 1) << ended.errors;
    EXPECT_THAT(ended.errors, HasSubstr(reason));
  }
}

}  // namespace
}  // namespace epd::test
