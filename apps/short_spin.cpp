// OpenMP's threads spin at the end of a parallel loop until the last one arrives. libgomp lets them spin for
// milliseconds, which on cores that other programs use as well costs up to ten times the work. A thousand turns are
// enough where the cores are free. libgomp reads its settings when it is loaded, so the program sets this one and
// starts itself again, before any library has begun to set itself up (about 30 ms). The user's own settings win.
#include <unistd.h>

#include <cstring>

namespace {

bool is_set(char** environment, const char* name) {
  const auto length = std::strlen(name);
  for (; *environment; ++environment) {
    if (std::strncmp(*environment, name, length) == 0 && (*environment)[length] == '=') return true;
  }
  return false;
}

/// Of what the C library offers, only what needs no set-up may be used here.
void spin_shortly(int, char** arguments, char** environment) {
  static char setting[] = "GOMP_SPINCOUNT=1000";
  if (is_set(environment, "GOMP_SPINCOUNT") || is_set(environment, "OMP_WAIT_POLICY")) return;
  std::size_t count = 0;
  while (environment[count]) ++count;
  auto** const extended = static_cast<char**>(__builtin_alloca((count + 2) * sizeof(char*)));
  std::memcpy(extended + 1, environment, (count + 1) * sizeof(char*));
  extended[0] = setting;
  ::execve("/proc/self/exe", arguments, extended);  // where that fails, the program goes on without
}

__attribute__((section(".preinit_array"), used)) void (*const kBeforeAllElse)(int, char**, char**) = spin_shortly;

}  // namespace
