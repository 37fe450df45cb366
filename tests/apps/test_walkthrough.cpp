// The published walk-through: its four commands, with only the executable replaced and smaller numbers.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "distributed/job.h"
#include "epd/documents/predictor_json.h"
#include "epd/files/atomic_file.h"
#include "epd/files/zip.h"
#include "epd/images/png.h"
#include "support/test_files.h"
#include "support/tiny_model.h"

namespace epd::test {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using Arguments = std::vector<std::string>;

constexpr std::chrono::seconds kPatience{300};  // only a hang lasts longer, however busy the machine

/// A user's folder, in which the commands run, with a tiny model and a tiny Inception in the cache. launch.sh stands
/// there too, over these programs: its set-up has nothing to do.
class Walkthrough : public ::testing::Test {
 protected:
  Walkthrough() {
    testing::TinyModelOptions cifar10;
    cifar10.facts.dataset_name = "cifar10";
    cifar10.facts.resolution = 32;
    fs::create_directories(folder_ / "cache/models/cifar10");
    fs::create_directories(folder_ / "cache/models/inception");
    testing::make_tiny_model(folder_ / "cache/models/cifar10/denoiser.ts", cifar10);
    testing::make_tiny_detector(folder_ / "cache/models/inception/inception.ts");
    install_launcher();
  }

  void install_launcher() const {
    fs::create_directories(folder_ / "cmake");
    fs::create_directories(folder_ / "build");
    const fs::path source = EPD_SOURCE_DIR;
    fs::create_symlink(source / "launch.sh", folder_ / "launch.sh");
    fs::create_symlink(source / "models", folder_ / "models");
    fs::create_symlink(source / "cmake/spawn.sh", folder_ / "cmake/spawn.sh");
    fs::create_symlink(fs::path(EPD_BINARY_DIR) / "bin", folder_ / "build/bin");
    write_file(folder_ / "cmake/setup.sh", "#!/bin/sh\n");
    fs::permissions(folder_ / "cmake/setup.sh", fs::perms::owner_all);
    write_file(folder_ / "build/setup.env", text("python='", EPD_PYTHON, "'\n"));
  }

  /// Starts a command in the user's folder.
  Child start(Arguments command) const {
    const Arguments there{"env", "-C", folder_.path().string()};
    command.insert(command.begin(), there.begin(), there.end());
    // On the CPU everywhere, since two processes do not share a GPU.
    return {command,
            {{"EPD_CACHE", (folder_ / "cache").string()}, {"OMP_NUM_THREADS", "1"}, {"CUDA_VISIBLE_DEVICES", ""}},
            logs_.path().string()};
  }

  /// The same; it must succeed. Returns its stdout.
  std::string run(const Arguments& command) const {
    const auto ended = start(command).wait(kPatience);
    EXPECT_EQ(ended.exit_code, 0) << ended.errors;
    return ended.output;
  }

  static Arguments with(Arguments program, const Arguments& options) {
    program.insert(program.end(), options.begin(), options.end());
    return program;
  }
  static std::string port() { return "--master_port=" + std::to_string(free_port()); }
  static std::string program(const std::string& name) { return EPD_BINARY_DIR "/bin/" + name; }

  /// The options of train.py in the walk-through; 16 images instead of 10,000.
  static Arguments train_options() {
    return {"--dataset_name=cifar10",
            "--batch=8",
            "--total_kimg=0.016",
            "--sampler_stu=epd",
            "--sampler_tea=heun",
            "--num_steps=4",
            "--M=1",
            "--afs=True",
            "--scale_dir=0.01",
            "--scale_time=0",
            "--schedule_type=time_uniform",
            "--schedule_rho=1"};
  }
  /// Those of sample.py; 12 seeds instead of 50,000.
  static Arguments sample_options() { return {"--predictor_path=0", "--batch=128", "--seeds=0-11"}; }

  void expect_predictor_zero() const {
    const auto spec = read_predictor(folder_ / "exp/00000-cifar10-4-5-epd-uni1.0-afs/predictor.json");
    EXPECT_EQ(spec.dataset_name, "cifar10");
    EXPECT_EQ(spec.parameters().scale_time, 0);
  }
  void expect_images() const {
    const auto images = folder_ / "samples/cifar10/epd_nfe5_npoints_2";
    for (const char* name : {"000000/000000.png", "000000/000011.png"}) {
      EXPECT_EQ(decode_png(read_file(images / name), name).width, 32);
    }
  }

  void make_dataset_zip() const {
    ZipWriter zip(folder_ / "my-dataset.zip");
    for (unsigned i = 0; i < 12; ++i) zip.add(text("img", i, ".png"), encode_png(noise(32, 32, 3, i)));
    zip.finish();
  }

  TemporaryFolder folder_, logs_;
};

TEST_F(Walkthrough, RunsByTheLaunchScript) {
  run(with({"./launch.sh", "train", "--standalone", "--nproc_per_node=2", port()}, train_options()));
  expect_predictor_zero();
  run(with({"./launch.sh", "sample", "--standalone", "--nproc_per_node=1", port()}, sample_options()));
  expect_images();
  make_dataset_zip();
  run({"./launch.sh", "fid", "ref", "--data=my-dataset.zip", "--dest=my-dataset.npz"});
  const auto distance =
      run({"./launch.sh", "fid", "calc", "--images=samples/cifar10/epd_nfe5_npoints_2", "--ref=my-dataset.npz"});
  EXPECT_GT(std::stod(distance), 0);
  const auto own = run({"./launch.sh", "fid", "calc", "--images=my-dataset.zip", "--ref=my-dataset.npz"});
  EXPECT_LT(std::stod(own), 1e-6 * std::stod(distance));
}

TEST_F(Walkthrough, ChecksTheMachine) {
  const auto report = run({"./launch.sh", "check", "--standalone", "--nproc_per_node=2", port()});
  EXPECT_THAT(report, HasSubstr("PASS rank 1 device cpu"));
  EXPECT_THAT(report, HasSubstr("PASS rank 0 fp32: two runs give equal images"));
  EXPECT_THAT(report, HasSubstr("PASS rank 1 sum over 2 processes"));
  EXPECT_THAT(report, ::testing::ContainsRegex("PASS a run killed after [0-9]+ of [0-9]+ images"));
  EXPECT_THAT(report, ::testing::Not(HasSubstr("FAIL")));
}

TEST_F(Walkthrough, RunsByTorchrun) {
  const Arguments torchrun{EPD_PYTHON, "-m", "torch.distributed.run"};  // what torchrun is
  const auto found = Child(with(torchrun, {"--help"}), {}, logs_.path().string()).wait(kPatience);
  if (found.exit_code != 0) GTEST_SKIP() << "this LibTorch came without torchrun";
  const auto standalone = with(torchrun, {"--standalone", port(), "--no-python"});
  run(with(with(standalone, {"--nproc_per_node=2", program("train")}), train_options()));
  expect_predictor_zero();
  run(with(with(standalone, {"--nproc_per_node=1", program("sample")}), sample_options()));
  expect_images();
}

/// Original checkpoints of tiny models, through the whole way of a user: export, then sample.
class Checkpoints : public Walkthrough {
 protected:
  void SetUp() override {
    const std::string script = EPD_SOURCE_DIR "/tests/apps/make_checkpoints.py";
    const auto made = Child({EPD_PYTHON, script, folder_.path().string()}, {}, logs_.path().string()).wait(kPatience);
    if (made.exit_code == 77) GTEST_SKIP() << made.output;
    ASSERT_EQ(made.exit_code, 0) << made.errors;
  }

  /// Exports the files as that dataset's model, and draws two images.
  void expect_samples(const std::string& name, const Arguments& export_options, const Arguments& options = {}) const {
    SCOPED_TRACE(name);
    fs::remove_all(folder_ / ("cache/models/" + name));
    run(with({"./launch.sh", "model", name, "--source"}, export_options));
    run(with({"./launch.sh", "sample", "--dataset_name", name, "--solver=dpmpp", "--num_steps=3", "--seeds=0-1",
              "--chunk=2", "--outdir", name},
             options));
    EXPECT_TRUE(fs::exists(folder_ / (name + "/000000/000001.png")));
  }
};

TEST_F(Checkpoints, OfEveryFamilyAreExportedAndSampled) {
  expect_samples("imagenet64", {"edm.pkl"}, {"--class=1"});
  expect_samples("lsun_bedroom", {"consistency.pt", "--resolution=16", "--head_channels=32"});
  expect_samples("imagenet256", {"diffusion.pt", "classifier.pt", "--resolution=16", "--head_channels=32"},
                 {"--guidance_type=cg", "--guidance_rate=2"});
  expect_samples("lsun_bedroom_ldm", {"ldm.ckpt", "--resolution=8", "--head_channels=16"},
                 {"--schedule_type=discrete", "--schedule_rho=1"});
  expect_samples("ms_coco", {"sd.ckpt", "--resolution=8", "--num_heads=4", "--head_channels=8"},
                 {"--prompt=a cat", "--guidance_type=cfg", "--guidance_rate=7.5"});
}

/// launch.sh makes a model where a program first misses it; here from a checkpoint that was put into the cache by hand.
class FirstUse : public Walkthrough {
 protected:
  void SetUp() override {
    const auto checkpoint = folder_ / "cache/checkpoints/imagenet64/edm-imagenet-64x64-cond-adm.pkl";
    fs::create_directories(checkpoint.parent_path());
    const std::string unpack =
        "import importlib.util, lzma, sys\n"
        "if not importlib.util.find_spec('torch'): sys.exit(77)\n"
        "open(sys.argv[2], 'wb').write(lzma.open(sys.argv[1]).read())";
    const Arguments command{EPD_PYTHON, "-c", unpack, EPD_SOURCE_DIR "/tests/golden/models/edm_adm.pkl.xz", checkpoint};
    const auto unpacked = start(command).wait(kPatience);
    if (unpacked.exit_code == 77) GTEST_SKIP() << "this LibTorch came without Python's torch";
    ASSERT_EQ(unpacked.exit_code, 0) << unpacked.errors;
  }
  fs::path model() const { return folder_ / "cache/models/imagenet64/denoiser.ts"; }
};

TEST_F(FirstUse, OfAModelByTrainOrSampleExportsIt) {
  run({"./launch.sh", "train", "--dataset_name=imagenet64", "--loss_metric=l2", "--batch=2", "--total_kimg=0.002",
       "--num_steps=3", "--M=1"});
  const auto exported = read_file(model());
  fs::remove(model());
  write_file(folder_ / "options.json", R"({"dataset_name": "imagenet64", "solver": "euler", "seeds": "0-1"})");
  run({"./launch.sh", "sample", "--nproc_per_node=2", port(), "--config=options.json"});
  EXPECT_TRUE(read_file(model()) == exported) << "two exports of one checkpoint differ";
}

TEST_F(FirstUse, WithoutNetworkNamesTheAddressAndTheFolder) {  // the dataset is that of predictor 5
  const auto ended =
      start({"env", "https_proxy=http://127.0.0.1:9", "./launch.sh", "sample", "--predictor_path=5"}).wait(kPatience);
  EXPECT_EQ(ended.exit_code, 1);
  EXPECT_THAT(ended.errors, HasSubstr("https://nvlabs-fi-cdn.nvidia.com/edm/pretrained/edm-ffhq-64x64-uncond-vp.pkl"));
  EXPECT_THAT(ended.errors, HasSubstr((folder_ / "cache/checkpoints/ffhq").string()));
}

TEST_F(FirstUse, IsNotWhatExplainNeeds) {
  run({"./launch.sh", "sample", "--predictor_path=5", "--explain"});
  EXPECT_FALSE(fs::exists(folder_ / "cache/checkpoints/ffhq"));
}

}  // namespace
}  // namespace epd::test
