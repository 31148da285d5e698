// What a call allocates: its threads' scratch and a list of tasks, whatever the length of the sequence.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "kernels/attention_backward.h"
#include "kernels/with_threads.h"

namespace {
std::atomic<std::int64_t> held{0}, peak{0};

void* take_or_null(std::size_t bytes, std::size_t alignment) {
  // The size is kept before the block, within a whole alignment.
  const std::size_t before = std::max<std::size_t>(alignment, 64);
  auto* block = static_cast<char*>(std::aligned_alloc(before, (bytes + 2 * before - 1) / before * before));
  if (block == nullptr) return nullptr;
  *reinterpret_cast<std::size_t*>(block) = bytes;
  const std::int64_t now = held += static_cast<std::int64_t>(bytes);
  for (std::int64_t before_now = peak; before_now < now && !peak.compare_exchange_weak(before_now, now);) {
  }
  return block + before;
}
void* take(std::size_t bytes, std::size_t alignment) {
  void* pointer = take_or_null(bytes, alignment);
  if (pointer == nullptr) throw std::bad_alloc();
  return pointer;
}
void give(void* pointer, std::size_t alignment) {
  if (pointer == nullptr) return;
  char* block = static_cast<char*>(pointer) - std::max<std::size_t>(alignment, 64);
  held -= static_cast<std::int64_t>(*reinterpret_cast<std::size_t*>(block));
  std::free(block);
}
}  // namespace

void* operator new(std::size_t bytes) {
  return take(bytes, 64);
}
void* operator new[](std::size_t bytes) {
  return take(bytes, 64);
}
void* operator new(std::size_t bytes, std::align_val_t alignment) {
  return take(bytes, static_cast<std::size_t>(alignment));
}
void* operator new[](std::size_t bytes, std::align_val_t alignment) {
  return take(bytes, static_cast<std::size_t>(alignment));
}
// The sanitizers' own forms that return null would give blocks that `give` does not know.
void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept {
  return take_or_null(bytes, 64);
}
void* operator new[](std::size_t bytes, const std::nothrow_t&) noexcept {
  return take_or_null(bytes, 64);
}
void* operator new(std::size_t bytes, std::align_val_t alignment, const std::nothrow_t&) noexcept {
  return take_or_null(bytes, static_cast<std::size_t>(alignment));
}
void* operator new[](std::size_t bytes, std::align_val_t alignment, const std::nothrow_t&) noexcept {
  return take_or_null(bytes, static_cast<std::size_t>(alignment));
}
void operator delete(void* p) noexcept {
  give(p, 64);
}
void operator delete[](void* p) noexcept {
  give(p, 64);
}
void operator delete(void* p, std::size_t) noexcept {
  give(p, 64);
}
void operator delete[](void* p, std::size_t) noexcept {
  give(p, 64);
}
void operator delete(void* p, std::align_val_t a) noexcept {
  give(p, static_cast<std::size_t>(a));
}
void operator delete[](void* p, std::align_val_t a) noexcept {
  give(p, static_cast<std::size_t>(a));
}
void operator delete(void* p, std::size_t, std::align_val_t a) noexcept {
  give(p, static_cast<std::size_t>(a));
}
void operator delete[](void* p, std::size_t, std::align_val_t a) noexcept {
  give(p, static_cast<std::size_t>(a));
}

namespace longseq {
namespace {

/// Bytes that work() holds at once beyond what was held before.
template <class Work>
std::int64_t bytes_of(int threads, const Work& work) {
  return with_threads(threads, [&] {
    work();  // once before, for what TBB keeps
    const std::int64_t before = held;
    peak = before;
    work();
    return peak - before;
  });
}

template <class T>
class AttentionMemory : public testing::Test {};
using Types = testing::Types<float, double, BFloat16>;
TYPED_TEST_SUITE(AttentionMemory, Types);

TYPED_TEST(AttentionMemory, IsScratchPerThreadAndTheTasks) {
  using T = TypeParam;
  using A = Accumulator<T>;
  for (const std::int64_t s : {512, 4096}) {
    const Shape shape{1, 2, s, 32};
    const Pattern pattern{.kind = PatternKind::local, .causal = true, .seq_len = s, .window_left = 64};
    Tensor<T> q(shape), k(shape), v(shape), o(shape), d_o(shape);
    Tensor<A> lse({1, 2, s, 1}), dq(shape), dk(shape), dv(shape);
    for (Tensor<T>* tensor : {&q, &k, &v, &d_o})
      std::fill_n(tensor->data(), shape.elements(), static_cast<T>(0.5f));
    const AttentionInputs<T> inputs{std::as_const(q).view(), std::as_const(k).view(),
                                    std::as_const(v).view()};
    for (const int threads : {1, 3}) {
      const std::int64_t tasks = 300 * shape.heads * (s / 32 + 1);  // a task's size and TBB's own, generously
      const std::int64_t forward =
          bytes_of(threads, [&] { attention_forward<T>(pattern, {}, inputs, o.view(), lse.view()); });
      EXPECT_GE(forward, attention_scratch_bytes<T>(32) / 4) << "nothing was counted";
      EXPECT_LE(forward, threads * (attention_scratch_bytes<T>(32) + 65'536) + tasks) << s;
      const std::int64_t backward = bytes_of(threads, [&] {
        attention_backward<T>(pattern, {}, inputs, std::as_const(o).view(), std::as_const(lse).view(),
                              std::as_const(d_o).view(), {dq.view(), dk.view(), dv.view()});
      });
      const std::int64_t delta = lse.shape().elements() * static_cast<std::int64_t>(sizeof(A));
      EXPECT_GT(backward, delta);
      EXPECT_LE(backward, threads * (attention_backward_scratch_bytes<T>(32) + 65'536) + tasks + delta) << s;
    }
  }
}

}  // namespace
}  // namespace longseq
