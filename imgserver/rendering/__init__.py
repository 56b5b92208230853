"""What is rendered, when, and by which worker: admission, the render queue, the cost model, the worker pool.

Four queues stand between a request and a worker process. Each is bounded, and each refuses at once when it is full.

    image request, cache miss          upload                             stale hit
            |                             |                                   |
    [1] origin fetches            [2] uploads                        [3] background refresh
        one queue per remote          before the body is read            never waits: it starts now, or is skipped
        source
        sources/origin_cache/         rendering/                         runtime/background.py
        fetch_queue.py                upload_admission.py
            |                             |                                   |
            +--------------+--------------+-----------------------------------+
                           |
                   [4] renders: one queue for one worker pool
                       class NORMAL, URGENT or LOW for image requests, BATCH for uploads, REFRESH for refreshes
                       rendering/admission.py decides, rendering/queue.py stores and counts
                           |
                   worker pool: no queue; a worker has one job or none
                       rendering/worker_pool.py

A refresh joins queue 1 as well when its original must be fetched again. A local original skips queue 1.
"""
