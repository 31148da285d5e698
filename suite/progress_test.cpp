#include "suite/progress.h"

#include <gtest/gtest.h>
#include <pty.h>
#include <unistd.h>

#include <memory>
#include <stdexcept>

namespace longseq {
namespace {

using File = std::unique_ptr<std::FILE, int (*)(std::FILE*)>;

std::string written(std::FILE* file) {
  std::rewind(file);
  std::string text;
  for (int letter; (letter = std::fgetc(file)) != EOF;) text += static_cast<char>(letter);
  return text;
}

std::string shown(bool wanted) {
  const File file(std::tmpfile(), &std::fclose);
  Progress progress(file.get(), wanted);
  progress.begin_case(3, 20, "full ring");
  progress.repetition(4, 0.125, std::nullopt);
  progress.repetition(10, 0.125, 0.031);
  progress.clear();
  return written(file.get());
}

TEST(Progress, RewritesOneLine) {
  EXPECT_EQ(shown(true),
            "\rcase 3 of 20: full ring\x1b[K"
            "\rcase 3 of 20: full ring | repetition 4, 0.125 s interval unknown yet\x1b[K"
            "\rcase 3 of 20: full ring | repetition 10, 0.125 s ±3.1 %\x1b[K"
            "\r\x1b[K");
}

TEST(Progress, IsSilentWhenNotWanted) {
  EXPECT_EQ(shown(false), "");
}

/// Whether "auto" wants progress when stderr is this file.
bool wanted_on(int descriptor, int rank) {
  const int kept = dup(STDERR_FILENO);
  dup2(descriptor, STDERR_FILENO);
  const bool wanted = progress_wanted(rank, "auto");
  dup2(kept, STDERR_FILENO);
  close(kept);
  return wanted;
}

TEST(ProgressWanted, OnRankZeroOfATerminalOnly) {
  const File file(std::tmpfile(), &std::fclose);
  EXPECT_FALSE(wanted_on(fileno(file.get()), 0));
  int master = -1, terminal = -1;
  if (openpty(&master, &terminal, nullptr, nullptr, nullptr) != 0) GTEST_SKIP() << "no pseudo-terminals here";
  EXPECT_TRUE(wanted_on(terminal, 0));
  EXPECT_FALSE(wanted_on(terminal, 1));
  close(terminal);
  close(master);
}

TEST(ProgressWanted, ObeysTheMode) {
  EXPECT_TRUE(progress_wanted(0, "on"));
  EXPECT_FALSE(progress_wanted(1, "on"));
  EXPECT_FALSE(progress_wanted(0, "off"));
  EXPECT_THROW(progress_wanted(0, "maybe"), std::invalid_argument);
}

}  // namespace
}  // namespace longseq
