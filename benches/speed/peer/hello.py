"""For each line of the input, says hello once through llm-sandbox, and prints how many nanoseconds that took.

Arguments: the image, and name and value of the label by which its container is found again.
"""

import sys
import time

from llm_sandbox.pool import PoolConfig, PooledSandboxSession, create_pool_manager

IMAGE, LABEL, INSTANCE = sys.argv[1:]
# The interpreter of its own environment is the image's: it expects one at this place.
START = (
    "mkdir -p /sandbox/.sandbox-venv/bin && ln -s /usr/bin/python3 /sandbox/.sandbox-venv/bin/python"
    " && exec sleep infinity"
)


def hello(pool):
    began = time.perf_counter_ns()
    with PooledSandboxSession(pool_manager=pool) as session:
        output = session.run("print('hello')")
    took = time.perf_counter_ns() - began
    assert output.stdout == "hello\n", output
    return took


def main():
    pool = create_pool_manager(
        backend="docker",
        lang="python",
        image=IMAGE,
        config=PoolConfig(max_pool_size=1, min_pool_size=1, enable_prewarming=True),
        skip_environment_setup=True,
        runtime_configs={
            "entrypoint": ["/bin/sh", "-c", START],
            "user": "0:0",
            "init": True,
            "network_mode": "none",
            "labels": {LABEL: INSTANCE},
        },
    )
    with pool:
        print(hello(pool), flush=True)
        for _ in sys.stdin:
            print(hello(pool), flush=True)


main()
