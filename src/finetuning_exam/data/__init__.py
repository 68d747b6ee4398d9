"""From lines of a file to ids and labels. Nothing here imports torch."""
