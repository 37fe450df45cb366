#include "epd/documents/training_state.h"

#include <limits>
#include <string_view>
#include <system_error>

#include "epd/core/error.h"
#include "epd/core/log.h"
#include "epd/core/sha256.h"
#include "epd/files/atomic_file.h"
#include "epd/files/json.h"

namespace epd {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kVersion = 1;
constexpr const char* kNewest = "state.bin";
constexpr const char* kPrevious = "state-previous.bin";

std::string body_of(const TrainingState& s) {
  Json body{{"format", "epd-training-state"}, {"version", kVersion},      {"iteration", s.iteration},
            {"parameters", s.parameters},     {"adam_mean", s.adam_mean}, {"adam_square", s.adam_square},
            {"adam_steps", s.adam_steps},     {"seconds", s.seconds}};
  if (s.best) {
    body.update(
        {{"best_iteration", s.best->iteration}, {"best_loss", s.best->loss}, {"best_parameters", s.best->parameters}});
  }
  body["fingerprint"] = s.fingerprint;
  return json_text(body) + "\n";
}

TrainingState parsed(std::string_view bytes, const std::string& where) {
  const auto end_of_hash = bytes.find('\n');
  EPD_REQUIRE(end_of_hash != std::string_view::npos, where, ": cut short");
  const auto body = bytes.substr(end_of_hash + 1);
  EPD_REQUIRE(bytes.substr(0, end_of_hash) == sha256_hex(body), where, ": its contents do not match their SHA-256");
  auto json = JsonReader::parse(body, where);
  EPD_REQUIRE(json.string("format") == "epd-training-state", where, ": not a training state");
  EPD_REQUIRE(json.integer("version", 0, 1000000) == kVersion, where, ": an unknown version");
  constexpr auto kMost = std::numeric_limits<std::int64_t>::max();
  TrainingState state;
  state.iteration = json.integer("iteration", 0, kMost);
  state.parameters = json.numbers("parameters");
  state.adam_mean = json.numbers("adam_mean", state.parameters.size());
  state.adam_square = json.numbers("adam_square", state.parameters.size());
  state.adam_steps = json.integer("adam_steps", 0, kMost);
  if (json.has("best_iteration")) {
    state.best = {json.integer("best_iteration", 0, kMost), json.number("best_loss"),
                  json.numbers("best_parameters", state.parameters.size())};
  }
  state.seconds = json.number("seconds");
  state.fingerprint = json.string("fingerprint");
  json.finish();
  return state;
}

bool is_whole(const fs::path& path) {
  try {
    parsed(read_file(path), path.string());
    return true;
  } catch (const Error&) {
    return false;
  }
}

}  // namespace

void write_training_state(const fs::path& folder, const TrainingState& state) {
  const std::string body = body_of(state);
  const fs::path newest = folder / kNewest;
  std::error_code error;
  // A damaged file must not take the place of the whole one before it.
  if (fs::exists(newest, error) && is_whole(newest)) fs::rename(newest, folder / kPrevious, error);
  EPD_REQUIRE(!error, "cannot keep ", newest.string(), " as ", kPrevious, ": ", error.message());
  write_file(newest, sha256_hex(body) + "\n" + body, Durability::kSync);
}

std::optional<TrainingState> read_training_state(const fs::path& folder) {
  for (const char* name : {kNewest, kPrevious}) {
    const fs::path path = folder / name;
    if (!fs::exists(path)) continue;
    const auto bytes = read_file(path);  // a disk that fails is not a damaged checkpoint
    try {
      return parsed(bytes, path.string());
    } catch (const Error& e) {
      log::warning("ignoring a damaged checkpoint: ", e.what());
    }
  }
  return std::nullopt;
}

}  // namespace epd
