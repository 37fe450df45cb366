#include "epd/assets/registry.h"

#include "epd/assets/paths.h"
#include "epd/files/atomic_file.h"
#include "epd/files/json.h"

namespace epd {
namespace {

std::string name_in(JsonReader& entry, const std::string& field) {
  return entry.is_null(field) ? "" : entry.object(field).string("name");
}

}  // namespace

DatasetEntry find_dataset(const std::string& name) {
  const auto path = project_dir() / "models" / "registry.json";
  auto registry = JsonReader::parse(read_file(path), path.string());
  if (!registry.has(name)) return {};
  auto entry = registry.object(name);
  DatasetEntry result;
  if (entry.has("model")) result.model = entry.string("model");
  if (entry.has("detector")) result.detector = entry.string("detector");
  if (entry.has("end_to_end")) result.end_to_end = entry.boolean("end_to_end");
  result.statistics = name_in(entry, "statistics");
  result.captions = name_in(entry, "captions");
  return result;
}

}  // namespace epd
