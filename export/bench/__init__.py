"""`python -m export.bench`: how fast the event-driven engine is beside the alternatives. One run, ratios.

    command.py      the options, and what runs in which order
    timing.py       interleaved repetitions, and what the figures depend on (processor, versions, load)
    spiking.py      who computes the same spiking network: engine, reference, ONNX Runtime, PyTorch, SNN frameworks
    frameworks.py   that network with the neurons of the SNN frameworks
    dense.py        who computes the equivalent ANN: ONNX Runtime, LiteRT, PyTorch
    ann/            that ANN, and its forms for the three
    layers.py       one spiking convolution at a time: against spike rate, and against the roofline
    roofline.py     the accumulate kernel beside the same instructions without anything else
    processes.py    memory and start-up times, each in a process of its own
    report.py       the table, the marks to reach, the plots

Three comparisons are commands of their own:

    quality.py      `python -m export.bench.quality`: PSNR against milliseconds, bundles beside trained ANNs in float32
                    and in 8 bits (trained.py: who they are, and how they are calibrated; quality_report.py: the tables)
    video.py        `python -m export.bench.video`: a frame of a video beside a full run, by how much of it changed
    training.py     `python -m export.bench.training`: a training step beside SpikingJelly's, on the network of peers.py

What the engine is compared with needs packages that a board does not have, so it is imported only when asked for; what
is missing is named with the command that installs it.
"""
