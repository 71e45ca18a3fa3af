"""Archives: many pictures, in trees of folders and in object stores, nothing twice and nothing lost.

    work.py      `Work`, one picture of the list: what is read, what is written; `Recipe`, what is done with it
    listing.py   `Listing`, which finds the pictures of several SOURCEs while they are restored
    places.py    where they are read and written: folders, object stores
    journal.py   `Journal`, which remembers what was done with which picture, bundle and options
    picture.py   `Restorer(recipe)`, a warm network: `restorer.run(work)` restores one picture and says how it went
    pool.py      such processes side by side
    run.py       the run: the list through restorers, the journal, the summary
    command.py   what the options of `edge-restore` make of it

A restorer elsewhere needs nothing but a `Recipe` and then one `Work` after the other, both small, frozen and fit to be
pickled. It answers each with a `Done`: its `record` is what becomes a line of JSON, its `statistics` are counts of
spikes. An output appears whole or not at all, with the same bits whoever writes it, so that a picture that is given out
twice, because a worker was lost, is none the worse. Whoever gives work out adds each `Done` to the journal.

The order is that in which folders and stores list their names, folder by folder, which is no promise; lines and
progress keep it, whatever number of processes works. A picture's share (`--shard`) depends on its name alone.
"""
