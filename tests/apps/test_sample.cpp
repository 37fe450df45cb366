#include <gmock/gmock.h>

#include <cmath>
#include <csignal>
#include <thread>

#include "epd/core/sha256.h"
#include "epd/documents/manifest.h"
#include "epd/files/npy.h"
#include "epd/files/npz.h"
#include "epd/files/zip.h"
#include "epd/images/png.h"
#include "sample_program.h"

namespace epd::test {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;

constexpr const char* kScatteredSeeds = "0-9,1000,77,4000000000,50-54";  // 18 of them

void expect_success(const std::vector<Ended>& processes) {
  for (const auto& process : processes) EXPECT_EQ(process.exit_code, 0) << process.errors;
}

TEST_F(SampleProgram, MakesTheSameFilesForAnyNumberOfProcessesAndAnyBatch) {
  expect_success({run("one", {"--seeds", kScatteredSeeds})});
  const auto expected = files("one");
  EXPECT_EQ(expected.size(), 18U);
  EXPECT_TRUE(expected.contains("4000000000/4000000000.png"));
  for (const auto& [size, batch] : {std::pair{1, "5"}, {2, "64"}, {2, "1"}, {4, "16"}}) {
    const auto name = text("by-", size, "-batch-", batch);
    expect_success(run_by(size, name, {"--seeds", kScatteredSeeds, "--batch", batch}));
    EXPECT_EQ(files(name), expected) << name;
  }
}

TEST_F(SampleProgram, MakesTheSameFloatsForAnyNumberOfThreads) {
  const Arguments raw{"--seeds", kScatteredSeeds, "--format", "raw"};
  expect_success({run("one", raw), run("three", raw, {{"OMP_NUM_THREADS", "3"}})});
  EXPECT_EQ(read_file(out("one") / "images.npy"), read_file(out("three") / "images.npy"));
}

TEST_F(SampleProgram, MakesTheSameFloatsForAnyNumberOfProcessesAndAnyBatch) {
  auto spec = predictor();
  spec.num_points = 3;
  spec.parameters().raw.clear();
  for (std::size_t i = 0; i < spec.num_parameters(); ++i) spec.parameters().raw.push_back(std::sin(3.0 * (i + 1)));
  const auto drawn_by = [&](int size, const std::string& batch) {
    const auto name = text("by-", size, "-batch-", batch);
    expect_success(run_by(size, command(name, spec,
                                        {"--seeds", kScatteredSeeds, "--format", "raw", "--guidance_type", "cfg",
                                         "--guidance_rate", "2", "--batch", batch})));
    return read_file(out(name) / "images.npy");
  };
  const auto expected = drawn_by(1, "64");
  EXPECT_EQ(drawn_by(1, "1"), expected);
  EXPECT_EQ(drawn_by(3, "64"), expected);
  EXPECT_EQ(drawn_by(3, "7"), expected);
}

TEST_F(SampleProgram, AddsOnlyWhatIsMissing) {
  expect_success({run("whole", {"--seeds", "0-11"}), run("grown", {"--seeds", "3,7"})});
  const auto before = fs::last_write_time(out("grown") / "000000/000007.png");
  expect_success(run_by(2, "grown", {"--seeds", "0-11", "--batch", "3"}));
  EXPECT_EQ(files("grown"), files("whole"));
  EXPECT_EQ(fs::last_write_time(out("grown") / "000000/000007.png"), before);
}

TEST_F(SampleProgram, KilledAtAnyMomentItEndsWithTheSameFiles) {
  const Arguments many{"--seeds", "0-199", "--batch", "4"};
  expect_success({run("clean", many)});
  const auto expected = files("clean");
  for (const auto delay : {300ms, 600ms, 900ms}) {
    auto child = start(command("killed", many));
    std::this_thread::sleep_for(delay);
    child.signal(SIGKILL);
    child.wait(10s);
    if (!fs::exists(out("killed"))) continue;
    for (const auto& [name, bytes] : files("killed")) {
      if (expected.contains(name)) {
        EXPECT_EQ(bytes, expected.at(name)) << name;
      }
    }
  }
  expect_success({run("killed", many)});
  EXPECT_EQ(files("killed"), expected);
}

TEST_F(SampleProgram, StopsOnASignalWithWholeFilesOnly) {
  auto child = start(command("stopped", {"--seeds", "0-99999", "--batch", "4"}));
  while (!fs::exists(out("stopped") / "000000")) std::this_thread::sleep_for(20ms);
  child.signal(SIGTERM);
  const auto ended = child.wait(60s);
  EXPECT_EQ(ended.exit_code, 143);
  for (const auto& [name, bytes] : files("stopped")) {
    EXPECT_NO_THROW(decode_png(bytes, name));
    EXPECT_THAT(name, ::testing::EndsWith(".png"));
  }
}

TEST_F(SampleProgram, KeepsTwoRunsApart) {
  expect_success({run("images", {"--seeds", "0-3"})});
  const auto before = files("images");
  const auto refused = run("images", {"--seeds", "0-3", "--num_steps", "4"});
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_EQ(error_lines(refused.errors), 1);
  EXPECT_THAT(refused.errors, HasSubstr("other settings"));
  EXPECT_EQ(files("images"), before);
  expect_success({run("images", {"--seeds", "0-1", "--num_steps", "4", "--overwrite"})});
  EXPECT_EQ(files("images").size(), 2U);
}

TEST_F(SampleProgram, RecordsHowTheImagesWereMade) {
  expect_success({run("images", {"--seeds", "0-3", "--class", "2"})});
  const auto manifest = read_manifest(out("images"));
  ASSERT_TRUE(manifest);
  const auto& settings = manifest->settings;
  EXPECT_EQ(settings.at("class"), 2);
  EXPECT_EQ(settings.at("chunk"), 4);
  EXPECT_EQ(settings.at("solver"), "euler");
  EXPECT_EQ(settings.at("precision"), "fp32");
  EXPECT_EQ(settings.at("model_sha256").get<std::string>().size(), 64U);
  EXPECT_EQ(manifest->run.at("seeds"), "0-3");
  EXPECT_EQ(manifest->run.at("nfe"), 2);
}

TEST_F(SampleProgram, KeepsOneSetOfImagesInEveryFormat) {
  const Arguments seeds{"--seeds", "5,0-2"};
  const auto with = [&](const Arguments& more) {
    Arguments all = seeds;
    all.insert(all.end(), more.begin(), more.end());
    return all;
  };
  expect_success({run("png", with({"--subdirs", "False"})), run("raw", with({"--format", "raw"}))});
  expect_success(run_by(2, "zip", with({"--format", "zip", "--subdirs", "False"})));
  expect_success(run_by(2, "npz", with({"--format", "npz"})));
  const auto pngs = files("png");
  const ZipReader zip(out("zip") / "images.zip");
  const auto npz = read_npz(out("npz") / "images.npz");
  const auto raw = read_npy(out("raw") / "images.npy");
  EXPECT_EQ(raw.shape, (std::vector<std::size_t>{4, 3, 8, 8}));
  EXPECT_EQ(npz.at("arr_0").shape, (std::vector<std::size_t>{4, 8, 8, 3}));
  EXPECT_EQ(npz.at("seeds").as_int64s(), (std::vector<std::int64_t>{5, 0, 1, 2}));
  EXPECT_EQ(npz.at("labels").as_int64s().size(), 4U);
  const auto floats = raw.as_doubles();
  const auto* pixels = npz.at("arr_0").as_uint8();
  for (std::size_t i = 0; i < 4; ++i) {
    const std::string name = text("00000", npz.at("seeds").as_int64s()[i], ".png");
    EXPECT_EQ(zip.read(*zip.find(name)), pngs.at(name));
    const auto image = decode_png(pngs.at(name), name);
    for (std::size_t p = 0; p < 64; ++p) {
      for (std::size_t c = 0; c < 3; ++c) {
        const auto x = static_cast<float>(floats[(i * 3 + c) * 64 + p]);
        const float value = std::min(std::max(127.5F * x + 128, 0.0F), 255.0F);
        EXPECT_EQ(image.pixels[p * 3 + c], static_cast<int>(value));
        EXPECT_EQ(pixels[(i * 64 + p) * 3 + c], image.pixels[p * 3 + c]);
      }
    }
  }
}

TEST_F(SampleProgram, MakesOneGridOfTheWholeRun) {
  expect_success({run("png", {"--seeds", "0-6", "--subdirs", "False"})});
  expect_success(run_by(2, "grid", {"--seeds", "0-6", "--grid", "--batch", "4"}));
  EXPECT_EQ(files("grid").size(), 1U);
  const auto grid = decode_png(files("grid").at("grid.png"), "grid.png");
  EXPECT_EQ(grid.width, 2 * 8);  // floor(sqrt(7)) a row
  EXPECT_EQ(grid.height, 4 * 8);
  const auto third = decode_png(files("png").at("000003.png"), "000003.png");
  EXPECT_TRUE(std::equal(third.row(0), third.row(0) + 24, grid.row(8) + 24));
}

TEST_F(SampleProgram, FinishesAStoppedArchive) {
  const Arguments zip{"--seeds", "0-7", "--format", "zip"};
  expect_success({run("whole", zip), run("again", zip)});
  // As if it had been killed before the archive was put together.
  fs::remove(out("again") / "images.zip");
  expect_success({run("png", {"--seeds", "2,3"})});
  fs::create_directories(out("again") / ".parts");
  fs::rename(out("png") / "000000", out("again") / ".parts/000000");
  expect_success(run_by(2, "again", zip));
  EXPECT_EQ(files("again"), files("whole"));
}

TEST_F(SampleProgram, KeepsTheStatesAtAllGridPoints) {
  expect_success({run("images", {"--seeds", "0-2", "--save_inters"})});
  const auto states = read_npy(out("images") / "inters/000000/000001.npy");
  EXPECT_EQ(states.shape, (std::vector<std::size_t>{3, 3, 8, 8}));
}

TEST_F(SampleProgram, DrawsWithAPredictorIntoThePublishedFolder) {
  const auto path = write("predictor.json", predictor_text(predictor()));
  const Arguments arguments{std::string(EPD_BINARY_DIR) + "/bin/sample",
                            "--model_path",
                            model_path(),
                            "--predictor_path",
                            path,
                            "--seeds",
                            "0-1",
                            "--device",
                            "cpu"};
  Arguments shell{"/bin/sh", "-c", "cd \"$0\" && exec \"$@\"", folder_.path().string()};
  shell.insert(shell.end(), arguments.begin(), arguments.end());
  expect_success({start(shell).wait(60s)});
  EXPECT_TRUE(fs::exists(folder_ / "samples/tiny/epd_nfe6_npoints_2/000000/000001.png"));
}

TEST_F(SampleProgram, SaysOnceForAllProcessesWhatTheUserShouldKnow) {
  auto spec = predictor();
  spec.dataset_name = "another";
  const std::string wanted = "warning: the predictor was made for another";
  for (const int size : {1, 2}) {
    const auto processes = run_by(size, command(text("by-", size), spec, {"--seeds", "0-5"}));
    expect_success(processes);
    const auto errors = all_errors(processes);
    EXPECT_NE(errors.find(wanted), errors.npos) << errors;
    EXPECT_EQ(errors.find(wanted), errors.rfind(wanted)) << errors;
  }
}

/// The number in the line that starts with "fid", as it is written.
std::string fid_in(const std::string& json) {
  const auto begin = json.find("\"fid\": ") + 7;
  return json.substr(begin, json.find_first_of(",\n", begin) - begin);
}

TEST_F(SampleProgram, ScoresLikeFidOnTheWrittenFolderToTheBit) {
  testing::make_tiny_detector(folder_ / "detector.ts");
  const auto detector = (folder_ / "detector.ts").string(), reference = (folder_ / "reference.npz").string();
  const auto fid = [&](const Arguments& arguments) {
    Arguments all{std::string(EPD_BINARY_DIR) + "/bin/fid", "--detector", detector, "--device", "cpu"};
    all.insert(all.begin() + 1, arguments.begin(), arguments.end());
    return start(all).wait(120s);
  };
  expect_success({run("real", {"--seeds", "100-139", "--num_steps", "6"})});
  expect_success({fid({"ref", "--data", out("real").string(), "--dest", reference})});

  const Arguments scored{"--seeds", "0-19", "--detector", detector, "--fid", reference, "--json"};
  const auto whole = run("images", scored);
  expect_success({whole});
  const auto record = (folder_ / "fid.json").string();
  expect_success({fid({"calc", "--images", out("images").string(), "--ref", reference, "--json", record})});
  EXPECT_EQ(fid_in(whole.output), fid_in(read_file(record)));
  EXPECT_EQ(fid_in(read_file(out("images") / "scores.json")), fid_in(read_file(record)));

  // Some of the images are there already; then none are written.
  expect_success({run("grown", {"--seeds", "3,7,12"})});
  EXPECT_EQ(fid_in(run("grown", scored).output), fid_in(read_file(record)));
  auto nothing_written = scored;
  nothing_written.push_back("--no_images");
  EXPECT_EQ(fid_in(run("nothing", nothing_written).output), fid_in(read_file(record)));
  EXPECT_FALSE(fs::exists(out("nothing")));
}

TEST_F(SampleProgram, StopsAtAnImageThatIsNotFiniteOrLeavesItOutAndSaysSo) {
  model_.facts.label_format = LabelFormat::kIndex;
  testing::make_tiny_model(model_path(), model_);
  testing::make_tiny_detector(folder_ / "detector.ts");
  expect_success({run("real", {"--seeds", "100-139", "--num_steps", "6"})});
  const auto detector = (folder_ / "detector.ts").string(), reference = (folder_ / "reference.npz").string();
  const std::string fid = std::string(EPD_BINARY_DIR) + "/bin/fid";
  expect_success({start({fid, "ref", "--data", out("real").string(), "--dest", reference, "--detector", detector,
                         "--device", "cpu"})
                      .wait(120s)});
  const Arguments seeds{"--seeds", "0-15", "--fid", reference, "--detector", detector, "--json"};
  const auto with = [&](const Arguments& more) {
    Arguments all = seeds;
    all.insert(all.end(), more.begin(), more.end());
    return all;
  };
  expect_success({run("whole", with({}))});
  const auto whole = files("whole");
  model_.bad_label = 2;
  testing::make_tiny_model(model_path(), model_);

  const auto stopped = run("stopped", with({}));
  EXPECT_EQ(stopped.exit_code, 1);
  EXPECT_EQ(error_lines(stopped.errors), 1);
  EXPECT_THAT(stopped.errors, ::testing::ContainsRegex("the image of seed [0-9]+ is not finite from step 1 of 2 on"));

  for (const int size : {1, 3}) {
    const auto name = text("skipped-", size);
    const auto ranks = run_by(size, name, with({"--on_bad", "skip", "--batch", "5"}));
    expect_success(ranks);
    auto manifest = *read_manifest(out(name));
    const auto bad = manifest.run.at("bad");
    ASSERT_GT(bad.size(), 0U);
    EXPECT_THAT(all_errors(ranks), HasSubstr(text("warning: ", bad.size(), " of 16 images are not finite")));
    auto expected = whole;
    for (const auto& image : bad) {
      EXPECT_EQ(image.at("where"), "from step 1 of 2 on");
      const auto digits = std::to_string(image.at("seed").get<int>());
      EXPECT_EQ(expected.erase(text("000000/", std::string(6 - digits.size(), '0'), digits, ".png")), 1U);
    }
    expected.erase("scores.json");
    auto made = files(name);
    EXPECT_THAT(made.at("scores.json"), HasSubstr(text("\"missing\": ", bad.size())));
    EXPECT_THAT(made.at("scores.json"), HasSubstr(text("\"num\": ", 16 - bad.size())));
    made.erase("scores.json");
    EXPECT_EQ(made, expected);
    EXPECT_THAT(ranks[0].output, HasSubstr(text("\"bad\": ", bad.size())));

    const auto packed = text("packed-", size);
    for (int time = 0; time < 2; ++time) {
      expect_success(run_by(size, packed, {"--seeds", "0-15", "--format", "npz", "--on_bad", "skip"}));
      const auto npz = read_npz(out(packed) / "images.npz");
      EXPECT_EQ(npz.at("seeds").as_int64s().size(), 16 - bad.size());
      EXPECT_EQ(npz.at("labels").as_int64s().size(), 16 - bad.size());
      EXPECT_EQ(read_manifest(out(packed))->run.at("bad"), bad);
    }
  }
}

TEST_F(SampleProgram, DrawsRandomSeedsOnceAndRecordsThem) {
  const auto drawn = run_by(2, "one", {"--seeds", "random:7"});
  expect_success(drawn);
  const auto before = files("one");
  EXPECT_EQ(before.size(), 7U);
  const auto record = read_manifest(out("one"))->run;
  const auto seeds = record.at("seeds").get<std::string>();
  EXPECT_EQ(record.at("random_seeds"), 7);
  EXPECT_THAT(all_errors(drawn), HasSubstr("seeds: " + seeds));
  expect_success({run("named", {"--seeds", seeds}), run("one", {"--seeds", "random:7"})});
  EXPECT_EQ(files("named"), before);
  EXPECT_EQ(files("one"), before);
  const Arguments zip{"--seeds", "random:5", "--format", "zip"};
  expect_success({run("zip", zip)});
  const auto archive = files("zip");
  expect_success({run("zip", zip)});
  EXPECT_EQ(files("zip"), archive);
  const auto refused = run("named", {"--seeds", "random:7"});
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_THAT(refused.errors, HasSubstr("has images of other seeds than random:7"));
  expect_success({run("one", {"--seeds", "random:7", "--overwrite"})});
  EXPECT_NE(files("one"), before);
  for (const std::string wrong : {"random:0", "random:", "random:x", "random:1,5", "random:99999999999"}) {
    EXPECT_EQ(run("wrong", {"--seeds", wrong}).exit_code, 2) << wrong;
  }
}

TEST_F(SampleProgram, DrawsAPlanFileAsItsSolver) {
  const auto explained = [&](Arguments command) {
    command.insert(command.end(), {"--explain", "--json"});
    const auto ended = start(command).wait(60s);
    EXPECT_EQ(ended.exit_code, 0) << ended.errors;
    return ended.output;
  };
  const Arguments raw{"--seeds", kScatteredSeeds, "--format", "raw"};
  auto spec = predictor();
  spec.num_points = 3;
  spec.parameters().raw.assign(spec.num_parameters(), 0.3);
  int number = 0;
  for (const auto& solver : {command("a"), command("a", {"--afs", "True", "--solver", "unipc"}), command("a", spec),
                             command("a", {"--guidance_type", "cfg", "--guidance_rate", "2"})}) {
    const auto plan = write("plan.json", explained(solver));
    const auto ours = text("solver-", number), theirs = text("plan-", number++);
    auto solvers = solver;
    solvers.insert(solvers.end(), raw.begin(), raw.end());
    solvers.insert(solvers.end(), {"--outdir", out(ours).string()});
    expect_success({start(solvers).wait(60s)});
    Arguments planned{solver[0], "--device", "cpu", "--model_path", model_path(), "--chunk", "4", "--plan", plan};
    if (number == 4) planned.insert(planned.end(), {"--guidance_type", "cfg", "--guidance_rate", "2"});
    planned.insert(planned.end(), raw.begin(), raw.end());
    planned.insert(planned.end(), {"--outdir", out(theirs).string()});
    expect_success({start(planned).wait(60s)});
    EXPECT_EQ(read_file(out(ours) / "images.npy"), read_file(out(theirs) / "images.npy"));
    const auto manifest = read_manifest(out(theirs));
    ASSERT_TRUE(manifest);
    EXPECT_EQ(manifest->settings.at("plan_sha256"), sha256_of_file(plan));
  }
}

TEST_F(SampleProgram, GoesOnWithTheSamePlanAlone) {
  const auto plan_with = [&](const char* name, const std::string& solver) {
    const auto ended = start(command("x", {"--solver", solver, "--explain", "--json"})).wait(60s);
    return write(name, ended.output);
  };
  const auto one = plan_with("one.json", "euler"), copy = plan_with("copy.json", "euler");
  const auto other = plan_with("other.json", "ipndm");
  const auto draw = [&](const std::string& plan, const char* seeds) {
    return start({std::string(EPD_BINARY_DIR) + "/bin/sample", "--device", "cpu", "--model_path", model_path(),
                  "--plan", plan, "--outdir", out("images").string(), "--seeds", seeds})
        .wait(60s);
  };
  expect_success({draw(one, "0-3"), draw(copy, "0-7")});
  EXPECT_EQ(files("images").size(), 8u);
  const auto refused = draw(other, "0-9");
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_THAT(refused.errors, HasSubstr("plan_sha256"));
  write_file(one, "{}");
  EXPECT_THAT(draw(one, "0-9").errors, HasSubstr("one.json: format: missing"));
}

TEST_F(SampleProgram, TakesItsTimesFromAList) {
  const auto draw = [&](const std::string& outdir, const Arguments& more) {
    Arguments all{std::string(EPD_BINARY_DIR) + "/bin/sample", "--device", "cpu", "--model_path", model_path()};
    all.insert(all.end(), {"--solver", "heun", "--format", "raw", "--seeds", "0-3", "--outdir", out(outdir).string()});
    all.insert(all.end(), more.begin(), more.end());
    return start(all).wait(60s);
  };
  const auto list = write("list.txt", "# of a test\n80, 12.5\n 2.5 0.5\n0 # the end\n");
  expect_success({draw("numbers", {"--sigmas", "80,12.5,2.5,0.5,0"}), draw("file", {"--sigmas", list})});
  EXPECT_EQ(read_file(out("numbers") / "images.npy"), read_file(out("file") / "images.npy"));
  EXPECT_EQ(draw("both", {"--sigmas", list, "--num_steps", "4"}).exit_code, 2);
}

TEST_F(SampleProgram, ExplainsWithoutAnyModel) {
  const std::string program = std::string(EPD_BINARY_DIR) + "/bin/sample";
  const Environment nothing_cached{{"EPD_CACHE", folder_.path().string()}};
  const auto table = start({program, "--predictor_path", "2", "--explain"}, nothing_cached).wait(60s);
  expect_success({table});
  EXPECT_THAT(table.output, HasSubstr("NFE (serial): 5, evaluations (total): 8"));
  const auto json = start({program, "--predictor_path", "2", "--explain", "--json"}, nothing_cached).wait(60s);
  expect_success({json});
  EXPECT_THAT(json.output, HasSubstr("\"format\": \"epd-plan\""));
  const auto plan = start({program, "--plan", write("plan.json", json.output), "--explain"}, nothing_cached).wait(60s);
  expect_success({plan});
  EXPECT_THAT(plan.output, HasSubstr("NFE (serial): 5, evaluations (total): 8"));
}

}  // namespace
}  // namespace epd::test
