"""The `edge-restore` command: where pictures come from, the run over them, where they go, and the shipped bundles."""
