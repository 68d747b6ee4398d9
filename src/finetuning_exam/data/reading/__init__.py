"""From a path to examples: raw records out of any file, then their fields in any format."""
