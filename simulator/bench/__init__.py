"""`python -m simulator.bench`: how fast the event-driven engine is beside the alternatives. One run, ratios.

    timing.py       interleaved repetitions, and what the figures depend on (processor, versions, load)
    pictures.py     the picture that is restored: a real noisy one, for an event-driven engine's speed depends on it
    spiking.py      who computes the same spiking network: engine, reference, ONNX Runtime, PyTorch, SNN frameworks
    dense.py        who computes the equivalent ANN: ONNX Runtime, LiteRT, PyTorch
    layers.py       one spiking convolution at a time: against spike rate, and against the roofline
    processes.py    memory and start-up times, each in a process of its own
    report.py       the table, the marks to reach, the plots
    command.py      the options, and what runs in which order

What is compared comes from `export` and needs packages that a board does not have, so it is imported only when asked
for; what is missing is named with the command that installs it.
"""
