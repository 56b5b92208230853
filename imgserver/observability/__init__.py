"""Metrics, logs and the audit log of one server, each in objects of its own, so that several servers can live in one
process.

Not in it: the code that observes requests, workers and tiers. Components report to functions that they are given
(web/instrumentation.py) or offer statistics that are read at each scrape (web/state_metrics.py).
"""
