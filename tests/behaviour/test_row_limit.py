"""The bound on a user's row, as callers of a server and users of the command line meet it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from support.server_process import ATTRIBUTE, PROJECT, ServerProcess, create_project

LIMIT = 4096
BATCH = f"/api/v1/projects/{PROJECT}/users:batch"


def test_a_row_that_would_be_too_large_is_refused_whichever_way_it_comes(kept_url: str, tmp_path: Path) -> None:
    first, second, third = create_project(kept_url, users=3)
    server = ServerProcess(kept_url, tmp_path, row_limit=str(LIMIT))
    try:
        with server.client() as http:
            kept = 0
            for n in range(20):
                body = {"cuid": first, "data": {"user_list_append": [f"{n:04}" + "x" * 496]}}
                answer = http.put(ATTRIBUTE, json=body, headers={"Accept-Language": "en"})
                if answer.status_code == 200:
                    kept += 1
                    continue
                assert (answer.status_code, answer.json()["code"]) == (400, 40002)
                assert "[user_list_append]" in answer.json()["msg"]
                assert "at most 4096 are allowed (row_limit)" in answer.json()["msg"]
            assert kept == 8
            # What is there may be replaced, and other users are not concerned.
            records = [
                {"cuid": first, "data": {"user_string_overwrite": "y" * 3000}},
                {"cuid": first, "data": {"user_string_overwrite": "z"}},
                {"cuid": second, "data": {"user_string_overwrite": "y" * 3000}},
                {"cuid": second, "data": {"user_list_append": ["y" * 500, "z" * 500, "x" * 500]}},
            ]
            answered = http.post(BATCH, json={"records": records}).json()["results"]
            assert [result["code"] for result in answered] == [40002, 0, 0, 40002]
            assert answered[3]["problems"][0]["kind"] == "row_length"
            assert answered[3]["problems"][0]["attribute"] == "user_list_append"
            for record in records:
                del record["cuid"]
            rows = [record | {"identifiers": {"phone": f"{n // 2:011}"}} for n, record in enumerate(records)]
            rows.append({"identifiers": {"phone": "new"}, "data": {"user_string_overwrite": "\x01" * 1000}})
            answered = http.post(BATCH, json={"records": rows, "on_unknown": "import"}).json()["results"]
            assert [result["code"] for result in answered] == [40002, 0, 0, 40002, 40002]
    finally:
        assert server.stop() == 0
    file = tmp_path / "rows.ndjson"
    texts = {second: "a", third: "b" * 5000, 77: "c" * 5000, 78: "d"}
    file.write_text("".join(json.dumps({"cuid": c, "user_string_once": text}) + "\n" for c, text in texts.items()))
    command = [
        sys.executable,
        "-m",
        "usertable",
        "import",
        str(file),
        "--project",
        PROJECT,
        "--store",
        kept_url,
        "--register",
    ]
    environment = {**os.environ, "USERTABLE_ROW_LIMIT": str(LIMIT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    rejects = next(tmp_path.glob("rows*rejects*")).read_text()
    assert [str(cuid) in rejects for cuid in texts] == [False, True, True, False], done.stderr
    assert "row_limit" in rejects + done.stderr
