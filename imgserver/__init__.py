"""imgserver: an async image server.

*A URL is parsed into a pure, ordered plan; everything after that is keyed by the plan.*

One asyncio process speaks HTTP, decides who waits and who is refused, and remembers finished pictures. It never loads
libvips: pixels are the business of worker processes, each rendering one picture at a time, each killable alone. So a
hostile photograph costs one request, and overload costs those who came too late, never those already inside.

The floors
    A module imports lower floors only, and on floor 2 the packages never import each other; import-linter holds both
    (setup.cfg). Read from the bottom: each floor can be understood without those above it.

    0  values and pure rules. plan.py is what a URL asks for; geometry.py and fitting.py compute every size, in
       integers, once; identity.py spells a plan so that equal wishes give equal keys; formats, media (a file's first
       bytes), negotiation, freshness, ranges and errors are tables and rules, as are signing.py (who may ask),
       expiry.py (until when) and ladder.py (for which sizes); addresses.py reads and spells those of other servers'
       pictures; rendition.py is what a render leaves behind; machine.py is what this machine
       grants, apikeys.py whom a key lets in; policy/ is what the operator allows.
    1  what everybody may report to: metrics.py (each series declared once), tallies.py (the counts that hits pay
       for), logs.py.
    2  the ports and what stands behind them. dialects/ turn a target into an ImageRequest; sources/ give an original
       as a local path: a folder's own, or the copy that a spool keeps of what an origin (HTTP, an object store) gave;
       caches/ keep renditions, in memory, on disk and in Redis behind one TieredCache; engine/ makes a Job a
       RenderResult,
       inside a worker. engine/vips.py is the airlock: the only importer of pyvips; engine/heif.py is that of
       the decoder of HEIC.
    3  who does what, when. service.py tells the story of one picture, in values of orders.py: kept, stale, joined, or
       made by rendering.py, over admission.py (waiting room, slots, deadlines; backlog.py counts it) with cost.py and
       estimate.py (what a render will take), workers.py (slots) over crew.py (a fixed number of processes kept alive)
       over worker.py (one process), and quarantine.py (originals that killed). While many wait, degradation.py (a rule
       of floor 0) says what is left out. quota.py bounds what strangers have made anew, refusals.py remembers what
       cannot be answered; uploads.py says who may upload now. rules.py and buckets.py hold the policy: what is
       rendered, and how often one client may ask. Below floor 2, for the service and for sources: flights.py (one
       making per key) and behind.py (renewal behind answers).
    4  HTTP. web/app.py is the composition root, the only place where settings become objects;
       web/images/handler.py turns requests into orders and renditions into answers, dressed by web/fields.py;
       web/uploads.py takes pictures in, behind web/door.py; settings.py composes the sections that stand beside their
       components.
    5  cli/: the commands.
    testing.py ships the contracts that every source and cache keeps, for those who write another.

The life of a request
    1. web/connections.py: a bounded number of connections, a timer on each header; web/targets.py makes the forms of a
       target one; pictures pass by the router. A plain request for what memory has is answered where it is read
       (web/shortcut.py): steps 2 to 4 have an `at_once` that awaits nothing. All else takes the framework's way.
    2. web/middleware.py: request id, methods, the policy's gate (web/gate.py) where it asks something; at the end
       errors into problem+json, one log event, one outcome.
    3. web/images/handler.py: the dialect checks a signature over the raw target, then parses it (4xx before any I/O),
       and a link may be over; Accept decides what `auto` means (and client hints, where a URL asks for them); plan and
       source path give the key. Parsed targets are remembered (web/wishes.py), so a hit does not parse.
    4. service.get_fresh: a kept picture whose original was looked at within the last second is answered without
       awaiting anything, with 304 if the client has it already. Otherwise service.get asks disk and Redis and looks
       at the original again; a stale picture is answered as it is and renewed behind. What was refused a moment ago is
       refused again at once.
    5. flights.join: one making per key and purge marks, in a task of its own; of several servers on one Redis, one.
       It is called off when the last who waits has left.
    6. source.bring: a far original is downloaded once for all its sizes, outside the waiting room and within bounds of
       its own, unless the room would refuse. The deadline starts. admission.enter: a place in the waiting room at once,
       or 503 with Retry-After at once.
    7. source.open: the original, before any CPU is taken; its head tells what the render will cost. One that is
       written over meanwhile is found out when the render has ended.
    8. ticket.slot: a turn by class, cost and memory. Who cannot be ready in time is refused instead of kept waiting.
    9. workers.render: an idle worker, or the spare. A slot is free when its worker has answered or is dead, never
       because somebody lost interest; at the deadline the worker is killed, and another is already warm. A death
       that was no deadline is tried again; an original that has killed twice is set aside.
    10. In the worker: limits by the header before decoding, the decoder's own reduction, the steps, the encoder; bytes
       and timings come back.
    11. The rendition is kept in memory, and in the other tiers behind the answer, unless it was purged meanwhile; it is
       answered to everybody in the flight. If there is none for want of source or capacity, the one of before is.

An upload
    Key, parameters and declared length are judged first (web/door.py, web/wants.py, web/body.py), then a place is
    taken (uploads.py), and only then is the body asked for. It goes piece by piece into files without a name
    (web/intake.py, web/scratch.py), and from step 6 on it is a picture like any other, of the lowest class and never
    kept; engine/optimize.py sees to it that it does not become larger.

SIGHUP: what can change while serving (web/reload.py: the policy, and by web/rereading.py keys and presets) is read off
the loop, checked, and replaced between two requests.
SIGTERM: not ready, no new tickets, open requests are finished, workers end; the log is closed last. SIGKILL: the kernel
kills the workers with their parent.

Where to begin: a new option is a row in dialects/native and a step in plan.py, bound in geometry.py and done in
engine/steps.py. A new source or cache is one file and its contract. A new feature is a module and one line in
service.py or web/app.py, which are short on purpose: they are where a tangle would start.
"""

__version__ = "0.1.0"
