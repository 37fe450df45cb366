// A preset is what the data say that it comes from.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "cli.h"
#include "distributed/job.h"
#include "epd/distill/run_train.h"
#include "epd/documents/predictor_json.h"
#include "epd/files/atomic_file.h"
#include "epd/files/options_json.h"
#include "epd/sampling/sample_options.h"
#include "support/test_files.h"

namespace epd::test {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using Arguments = std::vector<std::string>;

const fs::path kExp = fs::path(EPD_SOURCE_DIR) / "exp";

fs::path preset(const std::string& name) { return kExp / "presets" / (name + ".json"); }

/// The options that a program takes from its arguments.
template <class T>
class Parsed {
 public:
  explicit Parsed(Arguments arguments) {
    arguments.insert(arguments.begin(), "program");
    std::vector<const char*> argv;
    for (const auto& argument : arguments) argv.push_back(argument.c_str());
    program_.parse(static_cast<int>(argv.size()), argv.data());
  }
  Parsed(const Parsed&) = delete;
  static Arguments of_preset(const fs::path& path) { return {"--config", path.string()}; }

  json options() const { return options_json(program_.commands[0].options); }

  T run;

 private:
  cli::Common common_;
  cli::Program program_{"program", "", {{"", "", options_of(run).add(cli::options_of(common_))}}};
};
using Train = Parsed<TrainRun>;
using Sample = Parsed<SampleOptions>;

json read_json(const fs::path& path) { return json::parse(read_file(path)); }

/// The folders of the published runs: NNNNN-<dataset>-<N>-<NFE>-<student>-uni1.0-afs.
std::vector<fs::path> published_runs() {
  std::vector<fs::path> folders;
  for (const auto& entry : fs::directory_iterator(kExp)) {
    const auto name = entry.path().filename().string();
    if (name >= "00001" && name < "00033") folders.push_back(entry.path());
  }
  std::ranges::sort(folders);
  return folders;
}

/// <dataset>-<student>-nfe<NFE> of such a folder.
std::string preset_name(const fs::path& folder) {
  std::istringstream parts(folder.filename().string());
  std::string number, dataset, num_steps, nfe, student;
  for (auto* part : {&number, &dataset, &num_steps, &nfe, &student}) std::getline(parts, *part, '-');
  return text(dataset, "-", student, "-nfe", nfe);
}

TEST(Presets, SampleWithEachPublishedPredictor) {
  ASSERT_EQ(published_runs().size(), 32U);
  for (const auto& folder : published_runs()) {
    const auto name = preset_name(folder);
    SCOPED_TRACE(name);
    const Sample sample(Sample::of_preset(preset(name)));
    const auto& options = sample.run;
    const auto predictor = find_method_predictor(options.method);
    EXPECT_TRUE(fs::equivalent(predictor->path, folder / "predictor.json")) << predictor->path;
    EXPECT_EQ(options.dataset_name, predictor->spec.dataset_name);
    const auto method = make_method(options.method, predictor, facts_of(predictor->spec));
    EXPECT_TRUE(name.ends_with(text("-nfe", method.nfe())));
  }
}

TEST(Presets, TrainEachPublishedRunAsItWasTrained) {
  for (const auto& folder : published_runs()) {
    const auto name = "train-" + preset_name(folder);
    SCOPED_TRACE(name);
    const Train train(Train::of_preset(preset(name)));
    const auto used = train.options();
    const auto released = read_json(folder / "training_options.json");
    for (const auto& [option, value] : released.items()) EXPECT_EQ(used.at(option), value) << option;
    EXPECT_EQ(read_json(preset(name)), released);
    // The run makes the published predictor's own file, but for what is learned.
    auto published = read_predictor(folder / "predictor.json");
    auto made = train.run.options.validated().initial_predictor(facts_of(published));
    EXPECT_EQ(text("-", run_name(train.run, made)), folder.filename().string().substr(5));
    published.t_steps.reset();
    made.source = published.source;
    made.parameters().raw = published.parameters().raw;
    if (made.guidance_type == GuidanceKind::kNone) made.guidance_rate.reset();
    EXPECT_EQ(predictor_text(made), predictor_text(published));
  }
}

struct Recipe {
  const char* name;
  const char* options;  // as the public README and launch script give them (BeierZhu/EPD at 94c00d0)
};

constexpr Recipe kRecipes[] = {
    {"train-cifar10-epd-readme",
     "--dataset_name=cifar10 --batch=128 --total_kimg=10 --sampler_stu=epd --sampler_tea=heun --num_steps=4 --M=1 "
     "--afs=True --scale_dir=0.01 --scale_time=0 --schedule_type=time_uniform --schedule_rho=1"},
    {"train-cifar10-epd",
     "--dataset_name=cifar10 --batch=128 --total_kimg=10 --sampler_stu=epd --sampler_tea=dpm --num_steps=4 --M=3 "
     "--afs=True --scale_dir=0.05 --scale_time=0.05 --seed=0 --lr 0.2 --coslr --schedule_type=time_uniform "
     "--schedule_rho=1"},
    {"train-cifar10-ipndm",
     "--dataset_name=cifar10 --batch=128 --total_kimg=10 --sampler_stu=ipndm --sampler_tea=ipndm --num_steps=4 --M=3 "
     "--afs=True --scale_dir=0.05 --scale_time=0.2 --seed=0 --lr 0.2 --coslr --schedule_type=polynomial "
     "--schedule_rho=7 --max_order=4"},
    {"train-ffhq-epd",
     "--dataset_name=ffhq --batch=64 --total_kimg=10 --sampler_stu=epd --sampler_tea=dpm --num_steps=4 --M=3 "
     "--afs=True --scale_dir=0.05 --scale_time=0.05 --seed=0 --lr 0.2 --coslr --schedule_type=time_uniform "
     "--schedule_rho=1"},
    {"train-imagenet64-epd",
     "--dataset_name=imagenet64 --batch=64 --total_kimg=10 --sampler_stu=epd --sampler_tea=dpm --num_steps=4 --M=1 "
     "--afs=True --scale_dir=0.05 --scale_time=0.05 --seed=0 --lr 0.2 --coslr --schedule_type=time_uniform "
     "--schedule_rho=1"},
    {"train-lsun_bedroom_ldm-epd",
     "--dataset_name=lsun_bedroom_ldm --batch=64 --total_kimg=10 --sampler_stu=epd --sampler_tea=dpm --num_steps=4 "
     "--M=3 --afs=True --scale_dir=0.1 --scale_time=0 --seed=0 --lr 0.02 --coslr --schedule_type=discrete "
     "--schedule_rho=1 --max_order=3 --predict_x0=False --lower_order_final=True --guidance_type=uncond "
     "--guidance_rate=1"},
    {"train-ms_coco-epd",
     "--dataset_name=ms_coco --batch=32 --total_kimg=5 --sampler_stu=epd --sampler_tea=dpm --num_steps=4 --M=3 "
     "--afs=True --scale_dir=0.05 --scale_time=0.2 --seed=0 --lr 0.01 --schedule_type=discrete --schedule_rho=1 "
     "--max_order=2 --predict_x0=False --lower_order_final=True --guidance_type=cfg --guidance_rate=7.5"},
    {"sample-fid", "--predictor_path=0 --batch=128 --seeds=0-49999"},
    {"sample-fid-ms_coco", "--predictor_path=0 --batch=8 --seeds=0-29999"},
};

TEST(Presets, AreThePublishedRecipes) {
  for (const auto& recipe : kRecipes) {
    SCOPED_TRACE(recipe.name);
    std::istringstream words(recipe.options);
    const Arguments arguments{std::istream_iterator<std::string>(words), {}};
    if (std::string(recipe.name).starts_with("train-")) {
      const Train train(Train::of_preset(preset(recipe.name)));
      EXPECT_EQ(train.options(), Train(arguments).options());
      EXPECT_NO_THROW(train.run.options.validated());
    } else {
      EXPECT_EQ(Sample(Sample::of_preset(preset(recipe.name))).options(), Sample(arguments).options());
    }
  }
}

TEST(Presets, GiveWayToTheCommandLine) {
  const Train train({"--lr", "0.3", "--config", preset("train-cifar10-epd").string(), "--afs", "False"});
  EXPECT_EQ(train.run.options.lr, 0.3);
  EXPECT_EQ(train.run.options.afs, Afs::kNo);
  EXPECT_EQ(train.run.options.batch, 128);
}

TEST(StudentNs, IsValidatedAndCooledUnlessToldOtherwise) {
  const auto options = [](Arguments arguments) { return Train(std::move(arguments)).run.options; };
  EXPECT_EQ(options({"--sampler_stu", "ns"}).validation_images(), TrainOptions::kPlanValidationImages);
  EXPECT_TRUE(options({"--sampler_stu", "ns"}).is_cosine());
  EXPECT_EQ(options({"--sampler_stu", "ns", "--val_images", "0", "--coslr", "False"}).validation_images(), 0);
  EXPECT_FALSE(options({"--sampler_stu", "ns", "--val_images", "0", "--coslr", "False"}).is_cosine());
  EXPECT_EQ(options({}).validation_images(), 0);
  EXPECT_FALSE(options({}).is_cosine());
  EXPECT_TRUE(options({"--coslr"}).is_cosine());
}

TEST(Presets, AreThoseThatTheScriptMakesAndTheDemos) {
  const TemporaryFolder made, logs;
  const std::string script = EPD_SOURCE_DIR "/models/make_presets.py";
  auto child = Child({"python3", script, "--dest", made.path().string()}, {}, logs.path().string());
  const auto ended = child.wait(std::chrono::seconds(120));
  if (ended.exit_code == 127) GTEST_SKIP() << "there is no python3";
  ASSERT_EQ(ended.exit_code, 0) << ended.errors;
  std::size_t demos = 0;
  for (const auto& entry : fs::directory_iterator(kExp / "presets")) {
    const auto name = entry.path().filename().string();
    const bool demo = name.find("-demo") != std::string::npos;
    demos += demo;
    if (demo) continue;
    EXPECT_EQ(read_file(entry.path()), fs::exists(made / name) ? read_file(made / name) : "") << name;
  }
  EXPECT_EQ(made.count() + demos,
            static_cast<std::size_t>(std::distance(fs::directory_iterator(kExp / "presets"), {})));
}

}  // namespace
}  // namespace epd::test
