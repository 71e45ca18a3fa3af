"""Many machines: the list of an archive handed out through Dask distributed, and every output written once.

    where.py         what --cluster names: a scheduler, its certificates, how long it is waited for
    task.py          what a worker does: a batch of pictures, through a warm network
    note.py          what makes it once: a batch's note beside the outputs, under a lock
    client.py        `Cluster`, which hands batches out, and again what was lost
    local.py         a scheduler and workers on this machine, started anew where they die
    scheduler.py     such a scheduler
    process.py       one worker, as `edge.worker` starts several
    certificates.py  a key and a certificate, for a cluster whose scheduler others can reach
    simulation.py    how long a run takes, before it is made (`edge.plan`)

Dask delivers at least once: a batch whose worker dies, or whose scheduler does, is done again. `python -m edge.worker`
is a worker. Of Dask only what is needed is imported, and nothing of it unless --cluster is given.
"""
