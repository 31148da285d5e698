// What surrounds attention in a step: merging partial results, rotary positions, projections, pricing a
// pattern.
#include <fmt/format.h>

#include <algorithm>

#include "kernels/bench/bench.h"
#include "kernels/merge.h"
#include "kernels/pattern.h"
#include "kernels/position.h"
#include "kernels/projection.h"

namespace longseq::bench {
namespace {

template <class Work>
void run(benchmark::State& state, int threads, double flops, double bytes, const Work& work) {
  ThreadTeam team(threads);
  team.run([&] { measure_between_peaks<float>(state, team, work).report(state, flops, bytes); });
}

Tensor<float> filled(const Shape& shape, float value) {
  Tensor<float> tensor(shape);
  std::fill_n(tensor.data(), shape.elements(), value);
  return tensor;
}

void merge(benchmark::State& state, const Shape& shape, int threads) {
  const Shape rows{shape.batch, shape.heads, shape.tokens, 1};
  Tensor<float> o = filled(shape, 1.0f), lse = filled(rows, 0.5f);
  const Tensor<float> part_o = filled(shape, 2.0f), part_lse = filled(rows, 0.25f);
  const double elements = static_cast<double>(shape.elements());
  run(state, threads, 3 * elements, 12 * elements,
      [&] { merge_attention<float>(o.view(), lse.view(), part_o.view(), part_lse.view()); });
}

void rotary(benchmark::State& state, const Shape& shape, int threads) {
  Tensor<float> x = filled(shape, 1.0f);
  const double elements = static_cast<double>(shape.elements());
  run(state, threads, 3 * elements, 8 * elements, [&] {
    rotate_by_position(x.view(), {1'000'000, 1, shape.tokens});
  });
}

void projection(benchmark::State& state, const Shape& shape, int threads) {
  const std::int64_t width = shape.heads * shape.head_dim;
  const Tensor<float> x = filled({1, 1, shape.tokens, width}, 1.0f), w = filled({1, 1, width, width}, 0.01f);
  Tensor<float> y(shape);
  const double tokens = static_cast<double>(shape.tokens), columns = static_cast<double>(width);
  run(state, threads, 2 * tokens * columns * columns, 4 * (2 * tokens * columns + columns * columns), [&] {
    project_heads<float>(x.view(), {w.data(), static_cast<std::size_t>(width * width)}, y.view());
  });
}

void area(benchmark::State& state, const Pattern& pattern) {
  const std::int64_t half = pattern.seq_len / 2;
  for (auto _ : state) benchmark::DoNotOptimize(pattern.area({half, 1, half}, {1, 1, half}));
}

}  // namespace

void add_parts() {
  const Shape shape{1, 8, 8192, 64};
  using Part = void (*)(benchmark::State&, const Shape&, int);
  const auto add = [&](const char* name, Part part, int threads) {
    benchmark::RegisterBenchmark(fmt::format("{}/f32/D:{}/S:{}/H:{}/threads:{}", name, shape.head_dim,
                                             shape.tokens, shape.heads, threads)
                                     .c_str(),
                                 [=](benchmark::State& state) { part(state, shape, threads); })
        ->UseManualTime()
        ->Unit(benchmark::kMillisecond);
  };
  for (const int threads : thread_counts()) {
    add("merge", merge, threads);
    add("rotary", rotary, threads);
    add("projection", projection, threads);
  }
  for (const PatternRow& row : kPatterns) {
    const Pattern pattern{.kind = row.kind,
                          .causal = true,
                          .seq_len = 1 << 20,
                          .window_left = 512,
                          .global_tokens = 64,
                          .segment_length = 512,
                          .memory_length = 512,
                          .document_starts = {0, 1 << 18, 1 << 19}};
    benchmark::RegisterBenchmark(fmt::format("pattern_area/{}/S:{}", row.name, pattern.seq_len).c_str(),
                                 [=](benchmark::State& state) { area(state, pattern); });
  }
}

}  // namespace longseq::bench
