"""The compiled part of the engine: row operations, in files by what they handle, and the loop that runs them.

A pass (`simulator/engine/plan.py`) is a short list of row operations that share scratch memory: for each output row
(or pair of rows) and block of columns, the whole list is executed before the next, so that what one operation leaves
for another stays in the first-level cache. Operations are records of int64 (`simulator/engine/records.py`); everything
is reached by address, which keeps the compiled code independent of shapes, and one compilation serves every network.
Each is a function of its record, a row y, a column x and how many columns n from there on.

Layouts: real values [T, H, W', Cp] int16 or int32, channels last, Cp = C rounded up to 16, the lanes beyond C zero;
W' = W rounded up to even. Spikes are bits: uint16 words [T, H, W', Cp / 16], channel c at bit c % 16 of word c / 16.
"""
