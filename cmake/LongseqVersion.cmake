# Writes the header longseq_version.h: which code, compiler and flags. Run at every build, as
#   cmake -D SOURCE=... -D HEADER=... -D RELEASE=... -D COMPILER=... -D COMPILER_FLAGS=... -P LongseqVersion.cmake
# The file is touched only when something changed. Works without git, too (release archives).
set(commit "unknown")
set(dirty 0)
find_program(GIT git)
if(GIT)
  execute_process(COMMAND ${GIT} -C ${SOURCE} describe --always --tags --abbrev=12
    OUTPUT_VARIABLE described OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE failed)
  if(NOT failed)
    set(commit ${described})
  endif()
  execute_process(COMMAND ${GIT} --no-optional-locks -C ${SOURCE} status --porcelain --untracked-files=no
    OUTPUT_VARIABLE changes ERROR_QUIET)
  if(changes)
    set(dirty 1)
  endif()
endif()
string(STRIP "${COMPILER_FLAGS}" COMPILER_FLAGS)
foreach(text COMPILER COMPILER_FLAGS)
  string(REPLACE "\\" "\\\\" ${text} "${${text}}")
  string(REPLACE "\"" "\\\"" ${text} "${${text}}")
endforeach()
file(CONFIGURE OUTPUT ${HEADER} @ONLY CONTENT
[[#pragma once
#define LONGSEQ_RELEASE "@RELEASE@"
#define LONGSEQ_COMMIT "@commit@"
#define LONGSEQ_DIRTY @dirty@
#define LONGSEQ_COMPILER "@COMPILER@"
#define LONGSEQ_COMPILER_FLAGS "@COMPILER_FLAGS@"
]])
