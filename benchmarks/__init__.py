"""Benchmarks against PyTorch: python -m benchmarks {steps,overhead,import,memory,ops,all}.

Everything is measured in child processes (`child.py`), one for each engine and mode, which take turns: two engines in
one process would disturb each other's threads, and two runs one after the other would see two states of the machine.
"""
