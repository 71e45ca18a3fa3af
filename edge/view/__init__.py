"""`--view`: a page that shows a run while it goes on.

server.py    the pages and who may see them, by aiohttp, in a thread of its own
shown.py     the newest picture, encoded once for all who look
metrics.py   the numbers for Prometheus
page.html    the page, without a build
"""
