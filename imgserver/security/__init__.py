"""Access rules as pure values and functions: which clients, which URLs, which originals, and how often.

In it: addresses and networks of clients, the operator's policy, signatures of URLs, API keys, rate limits, the parser
of remote URLs with its allow-list, and the SSRF filter. Not in it: HTTP (the web package applies these rules and turns
refusals into responses), the fetching of originals (sources), and the audit log (observability).
"""
