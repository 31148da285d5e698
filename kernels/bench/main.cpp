// build/kernels_bench: Google Benchmark's program and options, and --simd=TARGET.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstdio>
#include <exception>
#include <string_view>

#include "kernels/bench/bench.h"
#include "kernels/simd.h"

namespace {

/// Takes --simd=TARGET out of the arguments and obeys it. Throws std::invalid_argument for a target that is
/// not here.
void obey_simd_option(int& count, char** arguments) {
  constexpr std::string_view kOption = "--simd=";
  int kept = 0;
  for (int i = 0; i < count; ++i) {
    const std::string_view argument = arguments[i];
    if (argument.substr(0, kOption.size()) == kOption) {
      longseq::force_simd_target(argument.substr(kOption.size()));
    } else {
      arguments[kept++] = arguments[i];
    }
  }
  count = kept;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    obey_simd_option(argc, argv);
  } catch (const std::exception& error) {
    fmt::print(stderr, "kernels_bench: {}\n", error.what());
    return 2;
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) {
    fmt::print(stderr, "beside Google Benchmark's options there is --simd=auto|{}\n",
               fmt::join(longseq::simd_targets(), "|"));
    return 1;
  }
  benchmark::AddCustomContext("simd_target", longseq::simd_target());
  longseq::bench::add_attention();
  longseq::bench::add_parts();
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
}
