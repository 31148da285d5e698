// build/kernels_bench: Google Benchmark's program and options, --simd=TARGET and --register-tile=TILE.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstdio>
#include <exception>
#include <stdexcept>
#include <string_view>
#include <utility>

#include "kernels/bench/bench.h"
#include "kernels/simd.h"
#include "kernels/tiles/forward_tile.h"

namespace {

void force_register_tile_of(std::string_view name) {
  if (name == "tall") return longseq::force_register_tile(longseq::RegisterTile::tall);
  if (name == "wide") return longseq::force_register_tile(longseq::RegisterTile::wide);
  if (name == "auto") return;
  throw std::invalid_argument(fmt::format("register-tile is '{}'; expected auto, tall or wide", name));
}

/// Takes our own options out of the arguments and obeys them. Throws std::invalid_argument for a value that
/// is none.
void obey_own_options(int& count, char** arguments) {
  constexpr std::pair<std::string_view, void (*)(std::string_view)> kOptions[] = {
      {"--simd=", longseq::force_simd_target}, {"--register-tile=", force_register_tile_of}};
  const auto obey = [&](std::string_view argument) {
    for (const auto& [name, set] : kOptions) {
      if (argument.substr(0, name.size()) != name) continue;
      set(argument.substr(name.size()));
      return true;
    }
    return false;
  };
  int kept = 0;
  for (int i = 0; i < count; ++i)
    if (!obey(arguments[i])) arguments[kept++] = arguments[i];
  count = kept;
}

/// What results depend on beside their names.
void say_how() {
  benchmark::AddCustomContext("simd_target", longseq::simd_target());
  benchmark::AddCustomContext("register_tile", longseq::detail::makes_wide_products() ? "wide" : "tall");
  for (const int threads : longseq::bench::thread_counts())
    benchmark::AddCustomContext(fmt::format("threads_{}", threads), longseq::ThreadTeam(threads).binding());
}

int run(int argc, char** argv) {
  obey_own_options(argc, argv);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) {
    fmt::print(stderr,
               "beside Google Benchmark's options there are --simd=auto|{} and "
               "--register-tile=auto|tall|wide\n",
               fmt::join(longseq::simd_targets(), "|"));
    return 1;
  }
  say_how();
  longseq::bench::add_attention();
  longseq::bench::add_parts();
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    fmt::print(stderr, "kernels_bench: {}\n", error.what());
    return 2;
  }
}
