"""From the lines of a file to token ids and labels. Nothing here imports torch."""
