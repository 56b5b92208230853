"""imgserver: an async image server.

*A URL is parsed into a pure, ordered plan; everything after that is keyed by the plan.*

One asyncio process speaks HTTP, caches, queues and sheds load. It never loads libvips: worker processes render, each
one picture at a time, and each can be killed alone. So a hostile picture costs one request, and overload costs the
newest requests, not the accepted ones.

Layers
    A module imports modules of lower layers only, and the packages of one port layer never import each other
    (import-linter, setup.cfg). From the bottom, each layer can be read without those above it:

    errors                                  one tree: status, code, public text, cacheable seconds
    plan                                    pure values: what a URL asks for, every size, the cache key
    headers, security, runtime              rules of HTTP; who may request what; small asyncio and OS tools
    observability                           metrics, logs, audit events
    dialects, sources, cache, engine        the ports and their implementations
    rendering                               who renders what, when: admission queue, cost model, worker pool
    service                                 the story of one picture
    web, settings                           HTTP; the settings of all components
    cli                                     the commands

    engine/vips.py is the only importer of pyvips, engine/heif.py of pi-heif, engine/bitmap.py of Pillow. A worker
    process loads errors, plan, runtime.resources and engine only.

The life of a request
    1. web/connections.py bounds connections and sets a timer for each header. web/fast_path.py answers a plain GET from
       the memory tier where the request is read. Every other request goes through the framework.
    2. web/middleware.py: request id, access policy, error boundary. Errors become problem+json; each request is one log
       event and has one outcome in the metrics.
    3. The dialect verifies the signature over the raw target and parses the target: errors 4xx before any I/O.
       Negotiation chooses the output format; plan, source and format give the cache key.
    4. service.py looks up the cache: memory, disk, Redis. A fresh picture is served, a stale one as well while it is
       rendered again in the background. Conditional requests are answered from the record: a 304 never reaches a
       worker. A recent refusal is repeated from the negative cache.
    5. runtime/single_flight.py: one render per key and generation, in a task that ends with its last waiter; with
       Redis, a render lock makes it one among all servers.
    6. A remote original is downloaded once for all its sizes (sources/origin_cache/), in a separate bounded queue, and
       not at all if admission would refuse the request. No worker waits for it.
    7. rendering/admission.py: a place in the bounded queue, or 503 with Retry-After immediately. The deadline starts.
    8. The original is opened; its header gives the cost of the render. The queue grants a worker by class, cost and
       memory. What cannot meet its deadline is refused. While requests wait, degradation.py chooses faster encoders.
    9. rendering/worker_pool.py: the worker renders. At the deadline it is killed, and the spare takes its place. An
       original that crashes two workers is quarantined.
    10. In the worker: limits from the file's header before decoding, shrink-on-load, steps, encoder. Bytes and timings
       come back.
    11. The response is sent. Only then the other tiers are written, unless the picture was purged in the meantime. If
       no picture can be rendered, a stale one is served.

An upload (web/uploads/) is checked by key, parameters and declared length before its body is read. The body goes into
an unnamed temporary file; from step 6 on it is a picture of the lowest class that is never cached.

SIGHUP reads keys, presets and the access policy again, off the event loop, and replaces them between two requests.
SIGTERM stops accepting, finishes open requests and ends the workers. After a SIGKILL the kernel kills the workers with
the server.

Where to begin: CONTRIBUTING.md. service.py and web/app.py are short on purpose: a new feature is a module and one line
there.
"""

__version__ = "0.1.0"
