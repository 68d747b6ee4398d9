"""The fast path: what a step of LoRA training on a CPU needs, and nothing else.

Each file holds one computation with a gradient of its own, tested against the stock one;
`decoder` puts them together for the architectures it knows.
"""
