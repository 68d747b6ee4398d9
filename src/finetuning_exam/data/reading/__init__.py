"""From a path to examples: the raw records of any file, then their fields in any format."""
