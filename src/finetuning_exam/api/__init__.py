"""The public functions: typed and silent. The command line is a layer over them."""
