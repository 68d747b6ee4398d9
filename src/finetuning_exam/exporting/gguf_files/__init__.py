"""Write GGUF files for llama.cpp: a model, or an adapter alone."""
