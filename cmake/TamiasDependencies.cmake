# The packages that the library itself needs; minimum versions are those of Debian 12.
find_package(Threads REQUIRED)
find_package(OpenMP 4.5 REQUIRED COMPONENTS CXX)
find_package(dnnl 2.6 REQUIRED)
find_package(hwy 1.0 REQUIRED)
find_package(fmt 9.1 REQUIRED)
find_package(dlpack REQUIRED)  # 0.6 or later: its version file says 0.1.0
find_package(nlohmann_json 3.11 REQUIRED)
find_package(yaml-cpp 0.7 REQUIRED)
find_package(PNG 1.6 REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(libutf8proc REQUIRED IMPORTED_TARGET libutf8proc)
pkg_check_modules(libpcre2 REQUIRED IMPORTED_TARGET libpcre2-8)
# Pictures: written as JPEG, read and written as WebP; EXIF.
pkg_check_modules(pictures REQUIRED IMPORTED_TARGET libturbojpeg libwebp>=1.2 libwebpmux libexif)
# FFmpeg 5.1: writes films and reads JPEG. Wheels do without: it would bring a hundred libraries along.
set(TAMIAS_FFMPEG ON CACHE BOOL "Films as files and JPEG input, by FFmpeg")
if(TAMIAS_FFMPEG)
  pkg_check_modules(ffmpeg REQUIRED IMPORTED_TARGET libavformat>=59 libavcodec>=59 libavutil>=57 libswscale>=6)
endif()
