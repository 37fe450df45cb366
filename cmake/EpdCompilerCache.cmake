# ccache, where it is installed: Torch's headers take about ten seconds a file.
find_program(EPD_CCACHE ccache)
if(EPD_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${EPD_CCACHE})
endif()
