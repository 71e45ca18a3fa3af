"""Host side of the link to boards and neuromorphic cards. It may use `simulator` and nothing above it."""
