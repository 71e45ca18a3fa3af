"""`python -m train.figures`: the paper's figures from this project's own measurements.

  coxcomb      Figure 1       PSNR over tasks and sets, from what `train.evaluate --json` wrote
  epoch-time   Figure 10a     seconds per epoch over a run, from its log.csv
  resolution   Figure 10b     milliseconds against resolution, from what `export.bench --json` wrote
  membrane     Figure 10c, d  membrane potentials with and without hints: maps, histograms, and figures
  strips       Figures 3-9    degraded, restored and clean pictures

One file each; every one draws what it is given, prints the figures that a claim can be tested with, and returns them.
"""
