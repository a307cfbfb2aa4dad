# Installs the library, its public headers, the command line, the profiles and the package files for
# find_package(tamias).
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

install(TARGETS tamias EXPORT tamias-targets
        LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
        ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/tamias DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(DIRECTORY ${PROJECT_SOURCE_DIR}/configs/ DESTINATION ${CMAKE_INSTALL_DATADIR}/tamias/configs)
install(EXPORT tamias-targets NAMESPACE tamias:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/tamias)
configure_package_config_file(
  ${PROJECT_SOURCE_DIR}/cmake/tamias-config.cmake.in ${PROJECT_BINARY_DIR}/tamias-config.cmake
  INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/tamias)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/tamias-config-version.cmake
                                 COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/tamias-config.cmake
              ${PROJECT_BINARY_DIR}/tamias-config-version.cmake
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/tamias)
if(TARGET tamias-cli)
  install(TARGETS tamias-cli RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()
