# A script: writes FUNCTION, which returns the bytes of INPUT as std::string_view, to OUTPUT.
#   cmake -DINPUT=page.html -DOUTPUT=page.cc -DFUNCTION=Page -P EmbedFile.cmake
file(READ ${INPUT} bytes HEX)
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${bytes}")
string(REGEX REPLACE "(................................................................................)" "\\1\n"
       bytes "${bytes}")
get_filename_component(name ${INPUT} NAME)
file(WRITE ${OUTPUT} "// The bytes of ${name}, made by EmbedFile.cmake.
#include \"embedded_files.h\"

namespace tamias::serve {
namespace {
constexpr unsigned char kBytes[] = {
${bytes}};
}  // namespace

std::string_view ${FUNCTION}() {
  return {reinterpret_cast<const char*>(kBytes), sizeof(kBytes)};
}
}  // namespace tamias::serve
")
