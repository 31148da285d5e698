// A C interface to the kernels, for scripts that time them beside others' (scripts/peers.py). Tensors are
// dense, in (batch, heads, tokens, head_dim) order. Calls come from one thread, which is among the problem's
// and stays pinned as they are.
#pragma once

#include <cstdint>

extern "C" {

struct LongseqProblem {
  std::int64_t batch;
  std::int64_t heads;
  std::int64_t kv_heads;
  std::int64_t tokens;
  std::int64_t head_dim;
  std::int64_t window_left;
  std::int64_t window_right;
  std::int64_t global_tokens;
  std::int32_t pattern;  // 0 full, 1 local, 2 global: the row of kPatterns
  std::int32_t causal;
  std::int32_t dtype;  // 0 f32, 1 bf16, 2 f64
  std::int32_t threads;
};

/// o (batch, heads, tokens, head_dim) in the problem's type, lse (batch, heads, tokens) in f32 (f64 for f64).
/// Each function gives 0, or 1 if the problem is refused: longseq_error() says why.
int longseq_forward(const LongseqProblem* problem, const void* q, const void* k, const void* v, void* o,
                    void* lse);

/// dq, dk, dv in f32 (f64 for f64), from o and lse of the forward pass and the gradient d_o of o.
int longseq_backward(const LongseqProblem* problem, const void* q, const void* k, const void* v,
                     const void* o, const void* lse, const void* d_o, void* dq, void* dk, void* dv);

/// Visible pairs of a head: FLOPs are 4 · area · heads · head_dim a batch entry, forward.
std::int64_t longseq_area(const LongseqProblem* problem);

/// FLOP/s of fused multiply-adds in f32 of that many threads together; −1 if they are refused.
double longseq_fma_rate(std::int32_t threads, double seconds);

/// The instruction set in use.
const char* longseq_simd_target();

/// The reason of the last refusal on this thread.
const char* longseq_error();
}
