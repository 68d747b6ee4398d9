"""The public functions: plain, typed, and without printing. The command line is a layer over them."""
