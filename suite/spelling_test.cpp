#include "suite/spelling.h"

#include <gtest/gtest.h>

#include <vector>

namespace longseq {
namespace {

TEST(EditDistance, AgreesWithTheTextbooks) {
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3);  // Wikipedia, "Levenshtein distance"
  EXPECT_EQ(edit_distance("intention", "execution"),
            5);  // Jurafsky & Martin, "Speech and Language Processing"
  EXPECT_EQ(edit_distance("", "abc"), 3);
  EXPECT_EQ(edit_distance("abc", ""), 3);
  EXPECT_EQ(edit_distance("same", "same"), 0);
}

TEST(Nearest, PrefersBeginningsThenFewestChanges) {
  const std::vector<std::string> names = {"--seq-len", "--heads", "--head-dim"};
  EXPECT_EQ(nearest("--seqlen", names), "--seq-len");
  EXPECT_EQ(nearest("--headdim", names), "--head-dim");
  EXPECT_EQ(nearest("--he", names), "--heads");  // begins so
  EXPECT_EQ(nearest("--head-d", names), "--head-dim");
  EXPECT_EQ(nearest("anything", {}), "");
}

TEST(AnyOf, ReadsAsASentence) {
  EXPECT_EQ(any_of(std::vector<std::string>{}), "");
  EXPECT_EQ(any_of(std::vector<std::string>{"a"}), "a");
  EXPECT_EQ(any_of(std::vector<std::string>{"a", "b", "c"}), "a, b or c");
}

}  // namespace
}  // namespace longseq
