namespace epd { int placeholder_for_an_empty_library() { return 0; } }
