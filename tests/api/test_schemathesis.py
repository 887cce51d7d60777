"""Whatever the OpenAPI document allows, and much that it does not, sent to a live server.

`RECSYS_FUZZ_S=600 .venv/bin/pytest tests/api/test_schemathesis.py -s --timeout 900` for long.
"""

import os
import subprocess
import sys
from pathlib import Path

import httpx

from tests.api.conftest import Shop, until
from tests.api.fake_recommender import load_fake
from tests.api.serving import add_key, listening

FUZZ_S = int(os.environ.get("RECSYS_FUZZ_S", "12"))
PYTHONPATH = {"PYTHONPATH": str(Path(__file__).parents[2])}
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)  # not ignored_auth: after some wrong keys an address is answered 429; test_keys has who gets in
PHASES = "examples,coverage,fuzzing,stateful" if FUZZ_S > 60 else "coverage"


def test_no_request_meets_a_defect_or_an_undocumented_answer(shop: Shop, tmp_path: Path) -> None:
    shop.publish("r1")
    key = add_key(shop.store, "admin")
    with listening(shop.app(load_fake)) as address:
        until(lambda: httpx.get(f"{address}/readyz").status_code == 200)
        done = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli", "run", f"{address}/openapi.json"),
                *("--header", f"Authorization: Bearer {key}", "--checks", ",".join(CHECKS)),
                *("--max-time", str(FUZZ_S), "--workers", "1", "--generation-database", "none"),
                *(
                    "--phases",
                    PHASES,
                    "--seed",
                    "7",
                    "--continue-on-failure",
                    "--no-color",
                    "--warnings",
                    "off",
                ),
            ],
            cwd=tmp_path,
            env={**os.environ, "SCHEMATHESIS_HOOKS": "tests.api.schemathesis_hooks"} | PYTHONPATH,
            capture_output=True,
            text=True,
            timeout=FUZZ_S + 120,
            check=False,
        )
        assert httpx.get(f"{address}/healthz").status_code == 200
    print(done.stdout)  # noqa: T201  the long run is for reading
    assert done.returncode == 0, done.stdout + done.stderr
