"""The degradations, made from clean photographs: `python -m train.degradations` writes a fixed test set.

Everything random comes from the generator that is passed in, everything else is float64 arithmetic that is rounded to
8 bits at the end, so a seed gives the same bytes again. What is made here is synthetic; every result on it says so.

  noise.py    white Gaussian noise (`gaussian_noise`), or a sensor's: Poisson and Gaussian noise in linear light
              ("camera"), also after what a camera does to it: colour filter array, demosaicing, JPEG ("photo")
  camera.py   the noise of photographs from many cameras and of film, what `--camera` trains on ("varied")
  rain.py     streaks of one direction ("light"), or up to five directions and a bright veil ("heavy")
  varied_rain.py  rain as several published generators make it, most of what is trained on ("varied")
  haze.py     I = J t + A (1 - t), t = exp(-beta d) with a depth that rises upwards and follows the picture's edges
  varied_haze.py  from a breath to fog, over depths of several kinds, two thirds of what is trained on ("varied")
  motion.py   camera shake: random trajectories, another one in each of two to four regions, in linear light ("slight":
              2 to 9 pixels, "strong": 9 to 27)
  defocus.py  disks of confusion that grow with |1/d - 1/d_focus|, layered from back to front, in linear light
              ("slight": radii up to 2 to 5 pixels in a picture, "strong": 5 to 15)
  jpeg.py     JPEG of quality 10, 20 or 40, 4:2:0, which nothing random is in ("q10", "q20", "q40"), or of any quality,
              also twice and resized, which is trained on ("varied")

Training draws from most of these files a variant of its own, "varied": float32, fast, and wider than the test sets,
from hardly any degradation to more than the strongest.

Which task uses which, under what names, stands in `train/tasks.py`. Pictures are uint8 RGB [H, W, 3]. A *field* is
float64 [H, W], smooth over about a third of the picture.
"""
