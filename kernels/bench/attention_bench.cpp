// Forward attention on one node. Counters: flops (mask-exact, a rate) and fraction_of_peak, against the FMA
// peak of the same threads measured just before and just after; the higher counts.
#include <benchmark/benchmark.h>
#include <fmt/format.h>
#include <tbb/global_control.h>
#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <random>
#include <thread>

#include "kernels/attention.h"
#include "kernels/peak.h"
#include "kernels/simd.h"

namespace longseq {
namespace {

template <class T>
double peak_of(int threads) {
  std::atomic<int> waiting{threads};
  std::vector<double> rates(static_cast<std::size_t>(threads));
  std::vector<std::thread> team;
  for (int t = 0; t < threads; ++t) {
    team.emplace_back([&, t] {
      --waiting;
      while (waiting > 0) std::this_thread::yield();
      rates[static_cast<std::size_t>(t)] = measure_fma_rate<T>(0.05);
    });
  }
  for (std::thread& thread : team) thread.join();
  double sum = 0;
  for (const double rate : rates) sum += rate;
  return sum;
}

template <class T>
void forward(benchmark::State& state, Pattern pattern, std::int64_t head_dim, std::int64_t heads,
             int threads) {
  const Shape shape{1, heads, pattern.seq_len, head_dim};
  Tensor<T> q(shape), k(shape), v(shape), o(shape), lse({1, heads, pattern.seq_len, 1});
  std::mt19937 engine(1);
  std::normal_distribution<T> normal;
  for (Tensor<T>* tensor : {&q, &k, &v}) {
    std::generate_n(tensor->data(), shape.elements(), [&] { return normal(engine); });
  }
  tbb::global_control limit(tbb::global_control::max_allowed_parallelism, static_cast<std::size_t>(threads));
  tbb::task_arena arena(threads);
  const double before = peak_of<T>(threads);
  std::chrono::duration<double> spent{0};
  for (auto _ : state) {
    const auto start = std::chrono::steady_clock::now();
    arena.execute([&] {
      attention_forward<T>(pattern, {}, {q.view(), k.view(), v.view()}, o.view(), lse.view());
    });
    spent += std::chrono::steady_clock::now() - start;
    benchmark::DoNotOptimize(o.data());
  }
  const double peak = std::max(before, peak_of<T>(threads));
  const double flops = 4.0 * static_cast<double>(pattern.area() * heads * head_dim);
  const double rate = flops * static_cast<double>(state.iterations()) / spent.count();
  state.counters["flops"] = rate;
  state.counters["fraction_of_peak"] = rate / peak;
}

template <class T>
void add(const char* type, const char* name, Pattern pattern, std::int64_t head_dim, int threads) {
  constexpr std::int64_t kHeads = 4;
  benchmark::RegisterBenchmark(
      fmt::format("attention_forward/{}/{}/D:{}/S:{}/H:{}/threads:{}", type, name, head_dim, pattern.seq_len,
                  kHeads, threads)
          .c_str(),
      [=](benchmark::State& state) { forward<T>(state, pattern, head_dim, kHeads, threads); })
      ->UseRealTime()
      ->Unit(benchmark::kMillisecond);
}

void add_all() {
  constexpr std::int64_t s = 8192;
  const auto most = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  for (const int threads : most > 1 ? std::vector<int>{1, most} : std::vector<int>{1}) {
    for (const std::int64_t head_dim : {64, 128}) {
      add<float>("f32", "full", {.kind = PatternKind::full, .seq_len = s}, head_dim, threads);
      add<float>("f32", "full_causal", {.kind = PatternKind::full, .causal = true, .seq_len = s}, head_dim,
                 threads);
      add<float>("f32", "local_512_causal",
                 {.kind = PatternKind::local, .causal = true, .seq_len = s, .window_left = 512}, head_dim,
                 threads);
      add<float>("f32", "global_64_window_512",
                 {.kind = PatternKind::global,
                  .causal = true,
                  .seq_len = s,
                  .window_left = 512,
                  .global_tokens = 64},
                 head_dim, threads);
      add<float>("f32", "segment_512_512",
                 {.kind = PatternKind::segment,
                  .causal = true,
                  .seq_len = s,
                  .segment_length = 512,
                  .memory_length = 512},
                 head_dim, threads);
    }
    add<double>("f64", "full", {.kind = PatternKind::full, .seq_len = s}, 64, threads);
  }
}

}  // namespace
}  // namespace longseq

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::AddCustomContext("simd_target", longseq::simd_target());
  longseq::add_all();
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
}
