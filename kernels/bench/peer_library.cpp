#include "kernels/bench/peer_library.h"

#include <fmt/format.h>

#include <exception>
#include <memory>
#include <stdexcept>
#include <string>

#include "kernels/attention_backward.h"
#include "kernels/peak.h"
#include "kernels/simd.h"
#include "kernels/threads/thread_team.h"

namespace {

using namespace longseq;

thread_local std::string error;

Pattern pattern_of(const LongseqProblem& problem) {
  if (problem.pattern < 0 || problem.pattern > 2)
    throw std::invalid_argument(
        fmt::format("pattern is {}; expected 0 full, 1 local or 2 global", problem.pattern));
  Pattern pattern{.kind = kPatterns[static_cast<std::size_t>(problem.pattern)].kind,
                  .causal = problem.causal != 0,
                  .seq_len = problem.tokens,
                  .window_left = problem.window_left,
                  .window_right = problem.window_right,
                  .global_tokens = problem.global_tokens};
  pattern.check();
  return pattern;
}

/// One team at a time is kept: to make one takes as long as a small problem.
ThreadTeam& team_of(int threads) {
  // Made at once: what comes to be while it is made, as the topology, is still there when it ends.
  static auto team = std::make_unique<ThreadTeam>(threads);
  if (team == nullptr || team->threads() != threads) {
    team.reset();  // before the next asks what it may use
    team = std::make_unique<ThreadTeam>(threads);
  }
  return *team;
}

/// What work() gives; `refused` if it throws, and longseq_error() says why.
template <class Result, class Work>
Result unless_refused(Result refused, const Work& work) {
  try {
    return work();
  } catch (const std::exception& refusal) {
    error = refusal.what();
    return refused;
  }
}

/// Calls work<T>() for the problem's type, by a team of its threads; an exception becomes a refusal.
template <class Work>
int run(const LongseqProblem& problem, const Work& work) {
  return unless_refused(1, [&] {
    if (problem.heads < 1 || problem.kv_heads < 1 || problem.heads % problem.kv_heads != 0)
      throw std::invalid_argument(
          fmt::format("kv-heads is {}; expected a divisor of heads = {}", problem.kv_heads, problem.heads));
    if (problem.threads < 1)
      throw std::invalid_argument(fmt::format("threads is {}; expected 1 or more", problem.threads));
    team_of(problem.threads).run([&] {
      switch (problem.dtype) {
        case 0:
          return work(float{});
        case 1:
          return work(BFloat16{});
        case 2:
          return work(double{});
      }
      throw std::invalid_argument(fmt::format("dtype is {}; expected 0 f32, 1 bf16 or 2 f64", problem.dtype));
    });
    return 0;
  });
}

Shape queries(const LongseqProblem& p) {
  return {p.batch, p.heads, p.tokens, p.head_dim};
}
Shape keys(const LongseqProblem& p) {
  return {p.batch, p.kv_heads, p.tokens, p.head_dim};
}
Shape rows(const LongseqProblem& p) {
  return {p.batch, p.heads, p.tokens, 1};
}

template <class T>
TensorView<const T> input(const void* data, const Shape& shape) {
  return dense_view(static_cast<const T*>(data), shape);
}
template <class T>
TensorView<T> output(void* data, const Shape& shape) {
  return dense_view(static_cast<T*>(data), shape);
}

}  // namespace

extern "C" {

int longseq_forward(const LongseqProblem* problem, const void* q, const void* k, const void* v, void* o,
                    void* lse) {
  const LongseqProblem& p = *problem;
  return run(p, [&]<class T>(T) {
    attention_forward<T>(pattern_of(p), {},
                         {input<T>(q, queries(p)), input<T>(k, keys(p)), input<T>(v, keys(p))},
                         output<T>(o, queries(p)), output<Accumulator<T>>(lse, rows(p)));
  });
}

int longseq_backward(const LongseqProblem* problem, const void* q, const void* k, const void* v,
                     const void* o, const void* lse, const void* d_o, void* dq, void* dk, void* dv) {
  const LongseqProblem& p = *problem;
  return run(p, [&]<class T>(T) {
    using A = Accumulator<T>;
    attention_backward<T>(pattern_of(p), {},
                          {input<T>(q, queries(p)), input<T>(k, keys(p)), input<T>(v, keys(p))},
                          input<T>(o, queries(p)), input<A>(lse, rows(p)), input<T>(d_o, queries(p)),
                          {output<A>(dq, queries(p)), output<A>(dk, keys(p)), output<A>(dv, keys(p))});
  });
}

std::int64_t longseq_area(const LongseqProblem* problem) {
  return unless_refused<std::int64_t>(-1, [problem] { return pattern_of(*problem).area(); });
}

double longseq_fma_rate(std::int32_t threads, double seconds) {
  return unless_refused(
      -1.0, [=] { return team_of(threads).sum([seconds] { return measure_fma_rate<float>(seconds); }); });
}

const char* longseq_simd_target() {
  static thread_local std::string name;
  name = simd_target();
  return name.c_str();
}

const char* longseq_error() {
  return error.c_str();
}
}
