// Forward and backward attention on one node, pattern by pattern.
#include <fmt/format.h>
#include <tbb/parallel_for.h>

#include <random>

#include "kernels/attention_backward.h"
#include "kernels/bench/bench.h"

namespace longseq::bench {
namespace {

struct Case {
  Pattern pattern;
  std::int64_t head_dim;
  std::int64_t heads;
  int threads;

  Shape shape() const { return {1, heads, pattern.seq_len, head_dim}; }
  double forward_flops() const { return 4.0 * static_cast<double>(pattern.area() * heads * head_dim); }
};

/// Filled by the threads that will read it, as far as a shared queue of tasks allows.
template <class T>
Tensor<T> normal_tensor(const Shape& shape, unsigned seed) {
  Tensor<T> tensor(shape);
  const std::int64_t per_head = shape.tokens * shape.head_dim;
  tbb::parallel_for(std::int64_t{0}, shape.heads, [&](std::int64_t h) {
    std::mt19937 engine(seed + static_cast<unsigned>(h));
    std::normal_distribution<float> normal;
    for (std::int64_t i = 0; i < per_head; ++i)
      tensor.data()[h * per_head + i] = static_cast<T>(normal(engine));
  });
  return tensor;
}

template <class T>
struct Tensors {
  using A = Accumulator<T>;
  Tensor<T> q, k, v, o, d_o;
  Tensor<A> lse, dq, dk, dv;

  explicit Tensors(const Shape& shape)
      : q(normal_tensor<T>(shape, 1)),
        k(normal_tensor<T>(shape, 1001)),
        v(normal_tensor<T>(shape, 2001)),
        o(shape),
        d_o(normal_tensor<T>(shape, 3001)),
        lse({shape.batch, shape.heads, shape.tokens, 1}),
        dq(shape),
        dk(shape),
        dv(shape) {}
  AttentionInputs<T> inputs() const { return {q.view(), k.view(), v.view()}; }
};

/// Times work(tensors) and reports it. `flops` and `bytes` of one call; bytes: each input and output once.
template <class T, class Work>
void measure(benchmark::State& state, const Case& c, double flops, double bytes, std::int64_t scratch,
             const Work& work) {
  ThreadTeam team(c.threads);
  team.run([&] {
    Tensors<T> tensors(c.shape());
    attention_forward<T>(c.pattern, {}, tensors.inputs(), tensors.o.view(), tensors.lse.view());
    const Peak peak = measure_between_peaks<Accumulator<T>>(state, team, [&] { work(tensors); });
    peak.report(state, flops, bytes);
    state.counters["scratch_bytes"] = static_cast<double>(scratch);  // of each thread
  });
}

double bytes_of(const Case& c, std::int64_t per_element, std::int64_t per_row) {
  const Shape shape = c.shape();
  return static_cast<double>(shape.elements() * per_element + shape.heads * shape.tokens * per_row);
}

template <class T>
void forward(benchmark::State& state, const Case& c) {
  using A = Accumulator<T>;
  measure<T>(state, c, c.forward_flops(), bytes_of(c, 4 * sizeof(T), sizeof(A)),
             attention_scratch_bytes<T>(c.head_dim), [&](Tensors<T>& t) {
               attention_forward<T>(c.pattern, {}, t.inputs(), t.o.view(), t.lse.view());
               benchmark::DoNotOptimize(t.o.data());
             });
}

template <class T>
void backward(benchmark::State& state, const Case& c) {
  using A = Accumulator<T>;
  measure<T>(state, c, 2.5 * c.forward_flops(), bytes_of(c, 5 * sizeof(T) + 3 * sizeof(A), sizeof(A)),
             attention_backward_scratch_bytes<T>(c.head_dim), [&](Tensors<T>& t) {
               attention_backward<T>(c.pattern, {}, t.inputs(), std::as_const(t.o).view(),
                                     std::as_const(t.lse).view(), std::as_const(t.d_o).view(),
                                     {t.dq.view(), t.dk.view(), t.dv.view()});
               benchmark::DoNotOptimize(t.dq.data());
             });
}

template <class T>
void add(const char* type, const char* pattern, const Case& c) {
  const auto add_pass = [&](const char* pass, void (*run)(benchmark::State&, const Case&)) {
    benchmark::RegisterBenchmark(fmt::format("attention_{}/{}/{}/D:{}/S:{}/H:{}/threads:{}", pass, type,
                                             pattern, c.head_dim, c.pattern.seq_len, c.heads, c.threads)
                                     .c_str(),
                                 [=](benchmark::State& state) { run(state, c); })
        ->UseManualTime()
        ->Unit(benchmark::kMillisecond);
  };
  add_pass("forward", forward<T>);
  add_pass("backward", backward<T>);
}

struct NamedPattern {
  const char* name;
  Pattern pattern;
};

std::vector<NamedPattern> patterns(std::int64_t s) {
  std::vector<std::int64_t> documents;
  for (std::int64_t start = 0; start < s; start += 1024) documents.push_back(start);
  return {
      {"full", {.kind = PatternKind::full, .seq_len = s}},
      {"full_causal", {.kind = PatternKind::full, .causal = true, .seq_len = s}},
      {"local_512_causal", {.kind = PatternKind::local, .causal = true, .seq_len = s, .window_left = 512}},
      {"global_64_window_512_causal",
       {.kind = PatternKind::global, .causal = true, .seq_len = s, .window_left = 512, .global_tokens = 64}},
      {"segment_512_512",
       {.kind = PatternKind::segment,
        .causal = true,
        .seq_len = s,
        .segment_length = 512,
        .memory_length = 512}},
      {"document_1024_causal",
       {.kind = PatternKind::document, .causal = true, .seq_len = s, .document_starts = documents}},
  };
}

}  // namespace

void add_attention() {
  for (const std::int64_t s : {1024, 8192}) {
    for (const auto& [name, pattern] : patterns(s)) {
      for (const std::int64_t head_dim : {64, 96, 128, 256}) {
        for (const std::int64_t heads : {1, 4}) {
          for (const int threads : thread_counts()) {
            const Case c{pattern, head_dim, heads, threads};
            add<float>("f32", name, c);
            add<BFloat16>("bf16", name, c);
            add<double>("f64", name, c);
          }
        }
      }
    }
  }
}

}  // namespace longseq::bench
