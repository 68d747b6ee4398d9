"""The fast path: only the computations that a LoRA training step on a CPU needs.

Each module has one computation with a hand-written gradient, tested against the stock one;
`decoder` combines them for the architectures it knows.
"""
